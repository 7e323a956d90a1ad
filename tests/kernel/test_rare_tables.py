"""Tables that this kernel may lack, made up anew each time and handed to both programs by tests/golden/shim.c."""

import errno
import os
import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import answers
import parity
import pytest
from conftest import ROOT, Netns, Program, unmet

pytestmark = [pytest.mark.root, pytest.mark.ss]

TABLES = (
    *("-Sa", "-S", "-wa", "-da", "-Ma", "--vsock -a", "--vsock", "--xdp -a", "--tipc -a", "--tipc", "-A all,tipc -a"),
    *("-a", "-l", "-A sctp,raw -a", "-A v_str -a", "-xa", "-0a", "-f netlink -a", "-ua", "-A unix_seqpacket -a"),
)
FLAGS = ("-n", "-e", "-m", "-i", "-o", "-O", "-H", "-p", "-b", "--tos", "--inet-sockopt", "--tipcinfo", "-4", "-6")
FILTERS = (
    *("", "", "", "sport = :22", "dport > 1000", "src vsock:2", "src vsock:*:1024", "sport >= 1024", "autobound"),
    *("not autobound", "src [::]", "dev lo", "dev != 1", "fwmark = 3", "src link:ip", "src netlink:genl", "sport = :0"),
    *("src unix:*a*", "state established", "exclude closed", "dst *", "( sport > 5 and not dport = :0 )"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tables")
    try:
        words = ["cc", "-shared", "-fPIC", "-o", str(home / "shim.so"), str(ROOT / "tests/golden/shim.c")]
        subprocess.run(words, check=True, timeout=60, capture_output=True)
    except FileNotFoundError:
        unmet("needs cc")
    return home


@pytest.fixture(scope="module")
def bench(home: Path, module_netns: Netns, ss: Program) -> Iterator[parity.Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(home / "shim.so"))
        bench = parity.Bench(module_netns.prefix, os.environ.get("SSTRACE_SS", ss.head[-1]), mode())
    yield bench
    bench.close()


def mode() -> tuple[str, ...]:
    """What sstrace is called with: it must be told the release of an ss that is not the one on PATH."""
    other = os.environ.get("SSTRACE_SS")
    if not other:
        return ("--snapshot",)
    version = subprocess.run([other, "-V"], capture_output=True, text=True, check=True, timeout=30).stdout
    return ("--snapshot", "--ss-version", version.strip().rpartition("-")[2])


@pytest.mark.parametrize("seed", range(40))
def test_same_bytes_of_made_up_tables(bench: parity.Bench, home: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for name in answers.ANSWERS:
        if rng.random() < 0.8:
            (tmp_path / f"{name}.diag").write_bytes(answers.answer(name, rng, rng.choice([0, 1, 3, 12])))
    env = {"DIAG_ANSWERS": str(tmp_path), "LD_PRELOAD": str(home / "shim.so")}
    for _ in range(6):
        line = " ".join((rng.choice(TABLES), *rng.sample(FLAGS, rng.randint(0, 6)), rng.choice(FILTERS)))
        outcome = bench.compare(line.split(), env=env, width=rng.choice([None, None, 0, 1, 80, 300]))
        assert outcome.same, f"ss {line}\n{outcome.why}"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOENT, errno.EOPNOTSUPP])
@pytest.mark.parametrize("last", ["refused", "ended"])
def test_a_kernel_that_cannot_select_by_cgroup(
    bench: parity.Bench, home: Path, tmp_path: Path, number: int, last: str
) -> None:
    """Linux before 5.9: EINVAL to the program that names one."""
    if last == "refused":
        answer = struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -number) + struct.pack("=IHHII", 72, 20, 0x301, 0, 0)
    else:
        answer = struct.pack("=IHHIIi", 20, 3, 2, 0, 0, -number)
    (tmp_path / "2.6.diag").write_bytes(answer)
    env = {"DIAG_ANSWERS": str(tmp_path), "LD_PRELOAD": str(home / "shim.so")}
    for line in ("-Hta cgroup /", "-Hta not cgroup /", "-Hxa src nothing-of-this-name cgroup /"):
        outcome = bench.compare(line.split(), env=env)
        assert outcome.same, f"ss {line}\n{outcome.why}"
