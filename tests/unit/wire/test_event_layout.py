"""The border stays true: bpf/event.h and sstrace.fields say the same, and so do struct config and what Python packs."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, unmet

from sstrace import fields, incidents
from sstrace.fields import CALLS, FLAGS, KINDS, LIFE, MEMBERS, RECORD
from sstrace.sources.bpf.config import Config
from sstrace.sources.perf import COUNTS
from sstrace.wire.event import SIZE

HEADER = (ROOT / "bpf/event.h").read_text()
PROGRAM = (ROOT / "bpf/config.h").read_text()
CODES = {"__u64": "Q", "__u32": "I", "__s32": "i", "__u16": "H", "__u8": "B", "u64": "Q", "u32": "I"}


def members(text: str, struct_name: str) -> list[tuple[str, str, int]]:
    """(name, struct code, elements; 0: no array) of every member; every line of the body must be one."""
    body = re.search(rf"^struct {struct_name} {{\n(.*?)^}};", text, re.M | re.S)
    assert body, struct_name
    found = []
    for line in body[1].splitlines():
        member = re.fullmatch(r"\t(\w+) (\w+)(?:\[(\w+)\])?; *(?:/\*.*\*/)?", line)
        assert member, f"not one member a line: {line!r}"
        size = member[3] or "0"
        constant = re.search(rf"^#define {size} (\d+)$", text, re.M)
        found.append((member[2], CODES[member[1]], int(constant[1] if constant else size)))
    return found


def constants(name: str) -> dict[str, int]:
    body = re.search(rf"^enum {name} {{\n(.*?)^}};", HEADER, re.M | re.S)
    assert body, name
    found = {}
    for line in body[1].splitlines():
        constant = re.fullmatch(r"\t(\w+) = (\d+), *(?:/\*.*\*/)?", line)
        assert constant, f"not one constant a line: {line!r}"
        found[constant[1]] = int(constant[2])
    return found


def test_the_struct_is_the_same_on_both_sides() -> None:
    in_c = [(name, f"{size}s" if size else code) for name, code, size in members(HEADER, "sock_event")]
    assert in_c == list(RECORD)


def test_the_counts_are_the_same_on_both_sides() -> None:
    assert members(HEADER, "sock_counts") == [(name, "Q", 0) for name in COUNTS]


def test_lives_are_the_same_on_both_sides_and_fit_in_place_of_a_stack() -> None:
    assert members(HEADER, "sock_life") == [(name, code, 0) for name, code in LIFE]
    assert struct.calcsize("=" + "".join(code for _, code in LIFE)) <= struct.calcsize(dict(RECORD)["stack"])


def test_no_padding_hides_in_it() -> None:
    codes = "".join(code for _, code in RECORD)
    asserted = re.search(r"_Static_assert\(sizeof\(struct sock_event\) == (\d+),", HEADER)
    assert asserted
    assert struct.calcsize("=" + codes) == struct.calcsize("@" + codes) == SIZE == int(asserted[1])


def test_arrays_are_arrays_of_bytes() -> None:
    # A "16s" of anything wider would hide a byte order.
    assert all(code == "B" for _, code, size in members(HEADER, "sock_event") if size)


def test_every_member_says_what_it_is() -> None:
    body = HEADER[HEADER.index("struct sock_event {") :].partition("};")[0]
    assert body.count("/*") == len(RECORD)


def test_kinds_and_flags_are_the_same() -> None:
    assert constants("sock_event_kind") == KINDS
    assert constants("sock_incident_kind") == incidents.KINDS
    assert constants("sock_event_flags") == FLAGS
    assert constants("sock_call") == CALLS


def test_flags_are_bits() -> None:
    assert all(value & (value - 1) == 0 for value in FLAGS.values())
    numbers = [*KINDS.values(), *incidents.KINDS.values()]
    assert len(set(numbers)) == len(numbers)


def test_what_is_reported_has_its_name_in_whatever_order_the_names_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    values = dict(zip(MEMBERS, range(1, 1 + len(MEMBERS)), strict=True))
    monkeypatch.setattr(fields, "REPORTED", tuple(reversed(fields.REPORTED)))
    told = fields.reported(tuple(values.values()))
    assert {name: getattr(told, name) + more for name, (*_, more) in MEMBERS.items()} == values
    none = fields.reported((7, *(0 for _ in values))[: len(values)])
    assert [getattr(none, name) for name in MEMBERS][1:] == [None] * (len(values) - 1)


def test_the_header_includes_nothing() -> None:
    assert "#include" not in HEADER


# ------------------------------------------------------------------------------------------- with a compiler at hand


def offsets(tmp_path: Path, name: str, text: str, names: list[str]) -> tuple[int, list[int]]:
    """Give sizeof and offsetof as gcc sees them, read from the data of an object file: nothing is run."""
    if shutil.which("gcc") is None:
        unmet("needs gcc")
    source = "#include <stddef.h>\n" + text
    values = ", ".join([f"sizeof(struct {name})", *(f"offsetof(struct {name}, {member})" for member in names)])
    source += f'\nconst unsigned int numbers[] __attribute__((section("layout"))) = {{ {values} }};\n'
    (tmp_path / "layout.c").write_text(source)
    subprocess.run(
        ["gcc", "-std=gnu11", "-Wall", "-Werror", "-c", "layout.c"],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=tmp_path,
    )
    subprocess.run(
        ["objcopy", "-O", "binary", "-j", "layout", "layout.o", "numbers"],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=tmp_path,
    )
    size, *found = struct.unpack(f"={len(names) + 1}I", (tmp_path / "numbers").read_bytes())
    return size, found


TYPES = (
    "typedef unsigned long long __u64, u64; typedef unsigned int __u32, u32; typedef int __s32;\n"
    "typedef unsigned short __u16; typedef unsigned char __u8;\n"
)


def test_the_compiler_agrees_about_the_event(tmp_path: Path) -> None:
    at, ours = 0, []
    for _, code in RECORD:
        ours.append(at)
        at += struct.calcsize("=" + code)
    text = TYPES + HEADER.replace("#pragma once", "")
    assert offsets(tmp_path, "sock_event", text, [name for name, _ in RECORD]) == (at, ours)


def config_definition() -> str:
    ranges = re.search(r"^#define TIMER_RANGES \d+$", PROGRAM, re.M)
    body = re.search(r"^struct config {\n.*?^};", PROGRAM, re.M | re.S)
    assert ranges
    assert body
    return f"{TYPES}{ranges[0]}\n{body[0]}\n"


# Values that name their place: a swap of two members cannot go unseen.
CONFIG = Config(
    fn_write_timer=0x1111111111111111,
    fn_request=0x2222222222222222,
    fn_timewait=0x3333333333333333,
    timer_lives=((0x41, 0x51), (0x42, 0x52), (0x43, 0x53), (0x44, 0x54)),
    pidns_dev=0x6666666666666666,
    pidns_ino=0x7777777777777777,
    netns=0x88888888,
    choosy=True,
    keeps=True,
    mptcp=True,
)
CONFIG_VALUES = {
    "fn_write_timer": [0x1111111111111111],
    "fn_request": [0x2222222222222222],
    "fn_timewait": [0x3333333333333333],
    "timer_start": [0x41, 0x42, 0x43, 0x44],
    "timer_size": [0x51, 0x52, 0x53, 0x54],
    "pidns_dev": [0x6666666666666666],
    "pidns_ino": [0x7777777777777777],
    "netns": [0x88888888],
    "choosy": [1],
    "keeps": [1],
    "tcp": [1],
    "mptcp": [1],
    "unused": [0],
}


def test_config_is_packed_as_c_has_it(tmp_path: Path) -> None:
    layout = members(PROGRAM, "config")
    size, found = offsets(tmp_path, "config", config_definition(), [name for name, _, _ in layout])
    packed = CONFIG.pack()
    assert len(packed) == size == 128
    for (name, code, count), at in zip(layout, found, strict=True):
        assert list(struct.unpack_from(f"={count or 1}{code}", packed, at)) == CONFIG_VALUES[name], name
    assert [name for name, _, _ in layout] == list(CONFIG_VALUES)


@pytest.mark.parametrize("given", range(4))
def test_ranges_that_are_not_known_are_zero(given: int) -> None:
    # A range of size 0 matches no address: minisock.h compares ``address - start < size``.
    config = Config(timer_lives=CONFIG.timer_lives[:given])
    starts, sizes = struct.unpack_from("=4Q", config.pack(), 24), struct.unpack_from("=4Q", config.pack(), 56)
    assert starts == (0x41, 0x42, 0x43, 0x44)[:given] + (0,) * (4 - given)
    assert sizes == (0x51, 0x52, 0x53, 0x54)[:given] + (0,) * (4 - given)


def test_more_ranges_than_the_program_compares_are_left_out() -> None:
    config = Config(timer_lives=(*CONFIG.timer_lives, (0x45, 0x55)))
    assert config.pack() == Config(timer_lives=CONFIG.timer_lives).pack()
