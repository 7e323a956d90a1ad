"""Every option with everything that sstrace can do: it means something, or is refused, and the advice holds."""

import re
from pathlib import Path

import pytest

from sstrace.dialect import dialect
from sstrace.errors import UsageError
from sstrace.query.catalog import ENTRIES, FILTER, MODES, STATES, Entry
from sstrace.query.command import Act, Command, Mode
from sstrace.query.options import parse

ROOT = Path(__file__).resolve().parents[3]

TYPED = {
    Act.TRACE: "",
    Act.BETWEEN: "--snapshot --from FILE --between +0 -0",
    Act.EXPLAIN: "--explain :1-:2",
    Act.EXPLAIN_PAST: "--explain #17 --from FILE",
    Act.EXPLAIN_LIVE: "--explain :1-:2 --from live",
}
"""How one asks for an act, where that is not its name."""

VALUES = {
    "--at": "+0",
    "--between": "+0 -0",
    "--speed": "10",
    "--explain": ":1-:2",
    "--rotate": "1M",
    "--keep": "3",
    "--duration": "5",
    "--count": "5",
    "--interval": "5",
    "--poll": "5",
    "--ss-version": "7.1",
    "--time": "utc",
    "f": "inet",
    "A": "tcp",
    "bpf-map-id": "7",
}
RELEASE = dialect((7, 1))


def parsed(line: str) -> Command:
    found = parse(["sstrace", *line.split()], release=RELEASE)
    assert isinstance(found, Command)
    return found


def typed(key: str, entry: Entry) -> str:
    word = key if key[:1] == "-" else f"-{key}" if len(key) == 1 else f"--{key}"
    value = "" if entry.argument[:1] in ("", "[") else VALUES.get(key) or (entry.values or ("name",))[0]
    needs = ""
    while entry.needs:
        needs += f" {entry.needs[0].replace('SIZE,TIME', '1M')}"
        entry = ENTRIES[entry.needs[0].partition(" ")[0]]
    return f"{word} {value}{needs}"


OPTIONS = [
    key
    for key, entry in ENTRIES.items()
    if entry.name not in (*MODES, "from", "help", "version", "completions") and key not in ("socket", "q")
]
"""By each name; -q in a snapshot is ss's to refuse."""


@pytest.mark.parametrize("act", Act)
def test_options_mean_something_or_are_refused(act: Act) -> None:
    for key in OPTIONS:
        an_option_means_something_or_is_refused(act, key)


def an_option_means_something_or_is_refused(act: Act, key: str) -> None:
    if key == "--events" and act.mode is Mode.SNAPSHOT:
        return  # there it is ss's, and -E
    entry = ENTRIES[key]
    line = f"{TYPED.get(act, act.value)} {typed(key, entry)}"
    if act in entry.acts:
        if not (key == "--stats" or (key == "--between" and act is Act.BETWEEN)):
            assert parsed(line).act is act
        return
    try:
        changed = parsed(line).act is not act
    except UsageError as error:
        follow(str(error), line, typed(key, entry))
    else:
        assert changed  # --replay, --stats and --between make another act of it


def follow(sentence: str, line: str, words: str) -> None:
    """Do what a refusal advises, each way: it must not be refused again for that option."""
    found = re.fullmatch(r"sstrace: (\S+) means nothing to (.*?): (.*)", sentence)
    assert found, sentence
    assert "\n" not in sentence
    for way in re.findall(r"--\w[\w-]*(?: --[\w-]+| FILE| live| WHICH)*", found[3]):
        parsed(way if way == "--output FILE" else f"{way.replace('WHICH', ':1-:2')} {words}")
    if "in a trace" in found[3]:
        parsed(words)
    if "leave it away" in found[3]:
        parsed(line.removesuffix(words))


@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize(("entry", "words"), [(STATES, "state established"), (FILTER, "sport = :1")])
def test_words_behind_the_options_are_read_or_refused(act: Act, entry: Entry, words: str) -> None:
    line = f"{TYPED.get(act, act.value)} {words}"
    if act in entry.acts:
        assert parsed(line).act is act
    else:
        with pytest.raises(UsageError, match=f"sstrace: {entry.name} means nothing to {act.value}: "):
            parsed(line)


@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize("source", ["netlink", "live", "live:/run/s", "FILE"])
def test_a_source_is_asked_or_refused(act: Act, source: str) -> None:
    line = TYPED.get(act, act.value)
    if "--from" in line or "--replay" in line:
        return
    words = f"--from {source}"
    try:
        found = parsed(f"{line} {words}")
    except UsageError as error:
        follow(str(error).replace(words.partition(":")[0], "--from", 1), line, words)
    else:
        assert found.own.source is not None
        assert found.own.source.kind == "netlink" or found.act is not act


@pytest.mark.parametrize("act", Act, ids=lambda act: act.value)
def test_each_act_has_a_module_that_does_it(act: Act) -> None:
    module = ROOT / "sstrace" / f"{act.module.replace('.', '/')}.py"
    assert re.search(r"^def run\(\s*command: Command, env: Mapping\[str, str\]", module.read_text(), re.M)
