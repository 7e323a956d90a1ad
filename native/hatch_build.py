"""Hatch's hook: the twins go into the wheel where they can be built; where not, the wheel is pure Python and works."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Twins(BuildHookInterface[Any]):
    """Compiles before the wheel is put together."""

    _directory: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """``version``: standard, or editable."""
        spec = importlib.util.spec_from_file_location("build_twins", Path(self.root, "native", "build.py"))
        assert spec is not None
        assert spec.loader is not None
        builder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(builder)
        self._directory = tempfile.TemporaryDirectory(prefix="sstrace-native-")
        try:
            module = builder.build(Path(self._directory.name))
        except builder.CannotBuildError as error:
            self.app.display_warning(f"without compiled twins: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        where = "force_include_editable" if version == "editable" else "force_include"
        build_data[where][str(module)] = module.name
        build_data[where][str(Path(self.root, "native", "_sstrace.pyi"))] = "_sstrace.pyi"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel has its copy."""
        if self._directory is not None:
            self._directory.cleanup()
