"""Import this first in a script that imports sstrace: where packages that sstrace needs are missing, it begins again in
the checkout's own environment, which scripts/sstrace and scripts/test make.
"""

import importlib.util
import os
import sys
from pathlib import Path

_PYTHON = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "python"

if importlib.util.find_spec("msgspec") is None:
    if not _PYTHON.exists() or Path(sys.prefix) == _PYTHON.parent.parent:
        sys.exit(f"{Path(sys.argv[0]).name} needs the environment that scripts/test makes: run that once")
    os.execv(_PYTHON, [str(_PYTHON), *sys.argv])
