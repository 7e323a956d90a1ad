"""Asks ss how the recorded dumps are to be printed, and keeps its answers: the oracle of test_golden.

    python tests/golden/record.py /path/to/ss ...       # each ss is asked for its release, and answers for it

``tests/data/golden/NAME.diag`` are dumps of ``tests/dumps.py``, kept as bytes so that the generator may change;
``NAME-RELEASE.txt.gz`` holds every case: a line ``### BYTES WIDTH OPTIONS`` and that many bytes. Run it where
/etc/services is Debian's and the local port range is the kernel's default; names that the answers hang on are in
``smallnames``.
"""

import fcntl
import gzip
import os
import random
import struct
import subprocess
import sys
import termios
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dumps

HOME = Path(__file__).resolve().parents[1] / "data" / "golden"

DUMPS = {
    "plain": lambda: dumps.random_dump(random.Random(1), 25, rich=False),
    "rich": lambda: dumps.random_dump(random.Random(2), 40, md5=False),
    "keys": lambda: dumps.random_dump(random.Random(3), 30, md5=True),
    "one": lambda: dumps.random_dump(random.Random(4), 1),
    "none": lambda: dumps.DONE,
}

OPTIONS = [
    "-ta",
    "-tan",
    "-Htan",
    "-tane",
    "-tano",
    "-tani",
    "-taniO",
    "-tanm",
    "-tanp",
    "-tanpe",
    "-taneimo",
    "-HtaneimoO",
    "-tae --tos --inet-sockopt",
    "-tanO --tos --inet-sockopt",
    "-A tcp,udp -an",
    "-A tcp,udp -ane",
    "-tan state listening",
    "-tan state listening -e",
    "-tanQ",
    "-tanQe",
    "-tanb",
]
WIDTHS = (None, 1, 40, 80, 81, 120, 300)


def ask(ss: str, options: str, dump: Path, width: int | None) -> bytes | None:
    """What ss prints, or None where it refuses."""
    environ = {"PATH": os.environ["PATH"], "TCPDIAG_FILE": str(dump)}
    if width is None:
        done = subprocess.run([ss, *options.split()], env=environ, capture_output=True, check=False, timeout=30)
        return None if done.returncode else done.stdout
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with subprocess.Popen([ss, *options.split()], env=environ, stdout=slave, stderr=subprocess.PIPE) as process:
        os.close(slave)
        out = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            out += piece
        os.close(master)
        process.communicate()
    return None if process.returncode else out


def main() -> None:
    """Record every dump with every ss given."""
    HOME.mkdir(parents=True, exist_ok=True)
    for name, make in DUMPS.items():
        path = HOME / f"{name}.diag"
        if not path.exists():
            path.write_bytes(make())
    for ss in sys.argv[1:]:
        version = subprocess.run([ss, "-V"], capture_output=True, text=True, check=True, timeout=30).stdout
        release = version.strip().rpartition("-")[2]
        for name in DUMPS:
            answers = b""
            for options in OPTIONS:
                for width in WIDTHS if options in ("-ta", "-tane", "-taneimo", "-tanpe") else (None,):
                    out = ask(ss, options, HOME / f"{name}.diag", width)
                    if out is not None:
                        answers += f"### {len(out)} {width or '-'} {options}\n".encode() + out + b"\n"
            (HOME / f"{name}-{release}.txt.gz").write_bytes(gzip.compress(answers, mtime=0))


if __name__ == "__main__":
    main()
