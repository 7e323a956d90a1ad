"""Asks ss how the recorded dumps are to be printed, and keeps its answers: the oracle of test_golden and test_tables.

    python tests/golden/record.py /path/to/ss ...       # each ss is asked for its release, and answers for it

``tests/data/golden/NAME.diag`` are dumps of ``tests/dumps.py``, kept as bytes so that the generator may change;
``NAME-RELEASE.txt.gz`` holds every case: a line ``### BYTES WIDTH OPTIONS`` and that many bytes. Run it where
/etc/services is Debian's and the local port range is the kernel's default; names that the answers hang on are in
``smallnames``.

``tests/data/tables/TABLE.diag`` are answers of ``tests/answers.py`` for tables that few kernels have, TABLE an address
family or FAMILY.PROTOCOL; ``tests/data/tables-6.1/TABLE.diag`` are those of a Linux 6.1 that has them, kept by
``scripts/record-tables``. ``RELEASE.txt.gz`` beside them is what ss printed when ``shim.c`` handed it these bytes for
the kernel's. That takes a C compiler.
"""

import fcntl
import gzip
import os
import random
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import answers
import dumps

HOME = Path(__file__).resolve().parents[1] / "data" / "golden"

DUMPS: dict[str, Callable[[], bytes]] = {
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


TABLES = HOME.parent / "tables"
RECORDED = HOME.parent / "tables-6.1"
TABLE_OPTIONS = [
    *("-San", "-Sln", "-Sanime", "-SanimeO", "-Sanio -4", "-wan", "-wane", "-wanim --tos", "-dan", "-danem"),
    *("-Man", "-Manime", "-ManimO", "-uanem", "-uane --inet-sockopt", "-A sctp,raw,mptcp -aneim"),
    *("--vsock -n", "--vsock -an", "--vsock -anem", "-A v_str -an", "-A v_dgr -an", "--vsock -an not autobound"),
    *("--vsock -an src vsock:2", "--vsock -an sport >= 1024", "--vsock -an dport = 22", "-an src vsock:*:1024"),
    *("--xdp -an", "--xdp -ane", "--xdp -anem", "--xdp -anemO", "--xdp -an sport > 0", "--xdp -an dev lo"),
    *("--tipc -n", "--tipc -an", "--tipc -ane", "--tipc -an --tipcinfo", "--tipc -aneO --tipcinfo", "--tipc -ln"),
    *("-xan", "-xanem", "-xanemO", "-xln", "-A u_seq -an", "-xan sport >= 2147483648", "-xan src *abstract*"),
    *("-0an", "-0ane", "-0anemb", "-0anembO", "-0an src ip", "-0an dev = 7777", "-A packet_raw -an"),
    *("-f netlink -an", "-f netlink -anem", "-f netlink -anemp", "-f netlink -an src genl", "-f netlink -anmO"),
    *("-an", "-A all -an", "-A all,tipc -anem", "-an state established", "-an autobound", "-an sport = :0", "-Hane"),
    *("-anQ", "-A tipc,vsock,xdp -anO"),
]


def make_tables() -> None:
    """The answers of the tables; TCP's are empty, lest ss turn to /proc."""
    TABLES.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate((*answers.ANSWERS, "2.6", "10.6")):
        path = TABLES / f"{name}.diag"
        if not path.exists():
            made = answers.answer(name, random.Random(seed), 24) if name in answers.ANSWERS else dumps.DONE
            path.write_bytes(made)
        path = RECORDED / f"{name}.diag"
        if not path.exists():
            path.write_bytes(dumps.DONE)


def record_tables(tables: Path, ss: str, release: str) -> None:
    """What ss prints of the tables in a directory."""
    with tempfile.TemporaryDirectory() as directory:
        shim = f"{directory}/shim.so"
        source = Path(__file__).with_name("shim.c")
        subprocess.run(["cc", "-O1", "-Wall", "-shared", "-fPIC", "-o", shim, source], check=True, timeout=60)
        environ = {"LD_PRELOAD": shim, "DIAG_ANSWERS": str(tables)}
        found = b""
        for options in TABLE_OPTIONS:
            for width in (None, 100) if len(options) < 11 else (None,):
                out = ask(ss, options, environ, width)
                if out is not None:
                    found += f"### {len(out)} {width or '-'} {options}\n".encode() + out + b"\n"
    (tables / f"{release}.txt.gz").write_bytes(gzip.compress(found, mtime=0))


def ask(ss: str, options: str, surroundings: dict[str, str], width: int | None) -> bytes | None:
    """What ss prints, or None where it refuses."""
    environ = {"PATH": os.environ["PATH"], **surroundings}
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
    make_tables()
    for ss in sys.argv[1:]:
        version = subprocess.run([ss, "-V"], capture_output=True, text=True, check=True, timeout=30).stdout
        release = version.strip().rpartition("-")[2]
        for tables in (TABLES, RECORDED):
            record_tables(tables, ss, release)
        for name in DUMPS:
            answers = b""
            for options in OPTIONS:
                for width in WIDTHS if options in ("-ta", "-tane", "-taneimo", "-tanpe") else (None,):
                    out = ask(ss, options, {"TCPDIAG_FILE": str(HOME / f"{name}.diag")}, width)
                    if out is not None:
                        answers += f"### {len(out)} {width or '-'} {options}\n".encode() + out + b"\n"
            (HOME / f"{name}-{release}.txt.gz").write_bytes(gzip.compress(answers, mtime=0))


if __name__ == "__main__":
    main()
