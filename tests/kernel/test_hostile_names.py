"""Names that were chosen to do harm, through every way out, each read by a consumer of its kind: it finds the name, and
nothing that the name made up. What ``--snapshot`` prints as text is ss's, to the byte; whatever else goes to a
terminal is escaped by one function.
"""

import array
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from hostile_names import HOSTILE, Names, World, world
from prometheus_client.parser import text_string_to_metric_families
from test_metrics import PORT as METRICS
from test_metrics import get
from test_sinks import Collector
from tmux import Tmux
from tracing import Trace, wait

from sstrace.plain import plain, spelled

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

Said = Mapping[str, Any]
"""Way out → what its consumer has made of it: texts, as it shows them."""


def shown(name: bytes) -> str:
    """As a terminal has it."""
    return plain(name.decode(errors="surrogateescape"))


def comm(names: Names) -> bytes:
    """Ss takes a process's name from the parentheses of /proc/PID/stat, and so do we."""
    return names.comm.partition(b")")[0]


# ----------------------------------------------------------------------------------------------------------- consumers


def json_lines(data: bytes) -> list[dict[str, Any]]:
    """Strictly: UTF-8, one object a line, and nothing behind the last."""
    *lines, rest = data.split(b"\n")
    assert not rest
    found = [json.loads(line.decode()) for line in lines]
    assert all(isinstance(line, dict) for line in found)
    return found


def values(found: object) -> Iterator[str]:
    """Every text in a piece of JSON."""
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict):
        for key, value in found.items():
            yield key
            yield from values(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from values(value)


def in_json(data: bytes) -> set[str]:
    return set(values(json_lines(data)))


def in_text(data: bytes) -> str:
    """What may be written to a terminal: nothing but lines of what is seen."""
    text = data.decode()
    assert all(line.isprintable() for line in text.split("\n")), text
    return text


def messages(data: list[bytes]) -> list[str]:
    """RFC 5424, section 6, with the structured data that we send: none."""
    form = re.compile(
        rb"<(?:2[4-9]|30|31)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [!-~]{1,255} sstrace \d+ [a-z]+ - (.+)", re.DOTALL
    )
    found = []
    for message in data:
        match = form.fullmatch(message)
        assert match, message
        assert b"\n" not in match[1]
        found.append(match[1].decode())
    return found


def journal_fields(message: bytes) -> list[tuple[str, str]]:
    """systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    found = []
    while message:
        line, _, message = message.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(message[:8], "little")
            value, end = message[8 : 8 + size], message[8 + size : 9 + size]
            assert (len(value), end) == (size, b"\n")
            message = message[9 + size :]
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", key), line
        found.append((key.decode(), value.decode()))
    return found


class Daemon:
    """Whoever takes datagrams at a socket; long ones as a descriptor, as the journal does."""

    def __init__(self, path: Path) -> None:
        self.messages: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while True:
            message, ancillary, _, _ = self._socket.recvmsg(1 << 20, 64)
            for _, _, data in ancillary:
                (fd,) = array.array("i", data)
                with open(fd, "rb") as file:
                    file.seek(0)
                    message = file.read()
            if not message:
                return
            self.messages.append(message)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


# ------------------------------------------------------------------------------------------------------------ ways out


def say(made: World, directory: Path, sstrace: Program, ss: Program) -> Said:
    """Everything at once, so that the sockets need come but once."""
    with ExitStack() as stack:
        return _say(made, directory, sstrace, ss, stack)


def _say(made: World, directory: Path, sstrace: Program, ss: Program, stack: ExitStack) -> Said:
    netns = made.netns
    said: dict[str, Any] = {}
    journal, syslog, plainlog = (Daemon(directory / name) for name in ("journal", "syslog", "plainlog"))
    for daemon in (journal, syslog, plainlog):
        stack.callback(daemon.close)
    collector: Collector = netns.call(Collector)
    thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    for end in (collector.server_close, thread.join, collector.shutdown):
        stack.callback(end)
    ours = Program(*made.prefix(directory / "journal"), *sstrace.head)
    recording = directory / "recording"
    output = directory / os.fsdecode(made.names[0].group)

    def start(name: str, *words: str, json_lines: bool = True) -> Trace:
        (directory / name).mkdir()
        return stack.enter_context(Trace(ours, netns, directory / name, *words, json_lines=json_lines))

    port = collector.server_address[1]
    others = ("not", "(", "sport", "=", f":{port}", "or", "dport", "=", f":{port}", ")")
    native = start(
        "native", "--sink", "stdout", "--sink", "journald", "--sink", f"syslog:{directory / 'syslog'}", "--output",
        str(output), "--sink", f"otlp:http://127.0.0.1:{port}", "--record", str(recording),
        f"--metrics=127.0.0.1:{METRICS}", *others,
    )  # fmt: skip
    traces = {
        "native": native,
        "ecs": start("ecs", "--schema", "ecs"),
        "otel": start("otel", "--schema", "otel"),
        "text": start(
            "text", "--sink", "stdout", "--sink", f"syslog:{directory / 'plainlog'}", "--color", "never",
            json_lines=False,
        ),
    }  # fmt: skip
    server = start("served", f"--serve={directory / 'live'}", json_lines=False)
    watch = _watch(made, directory, stack)
    # A sandbox may run no program for a while (docs/kernels.md): then they come again.
    for _ in range(3):
        made.live()
        with suppress(AssertionError):
            wait("every device is told of", lambda: len(_told(native, made)) == len(made.names), 10)
            break
    said["watch"] = watch
    said["metrics"] = get(netns)
    said["served"] = sstrace("--snapshot", "--from", f"live:{directory / 'live'}", "-Htlnpe", netns=netns).stdout
    said["snapshot"] = [
        (sstrace("--snapshot", *words.split(), netns=netns), ss(*words.split(), netns=netns))
        for words in ("-Htlnpe", "-Htlne --cgroup", "-HtlnpeO", "-HtlnpT", "-Hxlnpe")
    ]
    said["snapshot --json"] = b"".join(
        sstrace("--snapshot", "--json", *words.split(), netns=netns).stdout for words in ("-tanpe --cgroup", "-xanpe")
    )
    for trace in (*traces.values(), server):
        assert trace.stop() == 0, trace.stderr
        in_text(trace.stderr.encode())
    said |= {name: (directory / name / "out").read_bytes() for name in traces}
    said |= {"journald": journal.messages, "syslog": syslog.messages, "syslog text": plainlog.messages}
    said["otlp"] = [(about, record) for about, record in collector.records]
    said["output"] = output.read_bytes()
    said["recording"] = recording.read_bytes()
    for name, words in {
        "replay": "-n --replay",
        "replay --json": "--json --schema ecs --replay",
        "stats": "--stats --count 99 --from",
        "stats --json": "--json --stats --count 99 --from",
        "past": "--snapshot -Htanpe --from",
        "past --json": "--snapshot --json -tanpe --from",
        "between": "--snapshot -tanpe --between +0s -0s --from",
    }.items():
        done = ours(*words.split(), str(recording))
        assert (done.returncode, done.stderr) == (0, b""), words
        said[name] = done.stdout
    lost = os.fsdecode(made.names[0].group)
    said["sentences"] = [
        ours(*words).stderr
        for words in (("--replay", lost), ("-N", lost), ("--output", f"{lost}/x"), ("dev", lost), (f"--{lost}",))
    ]
    return said


def _told(trace: Trace, made: World) -> set[str]:
    devices = {spelled(names.device) for names in made.names}
    return {line["ifname"] for line in trace.lines if line["type"] == "state" and line.get("ifname") in devices}


def _watch(made: World, directory: Path, stack: ExitStack) -> list[str]:
    """The screen; tmux says what a terminal makes of the bytes."""
    where = directory / "watch"
    where.mkdir()
    words = [*made.prefix(directory / "journal"), sys.executable, "-m", "sstrace", "--watch", "-tanpe", "--cgroup"]
    pane = Tmux(where, [*made.netns.prefix, *words], columns=900, lines=4 * len(made.names) + 20)
    stack.callback(pane.close)
    last = shown(comm(made.names[-1]))
    screen = pane.until(lambda lines: sum(last in line for line in lines) >= 2, 60)
    pane.type("q")
    pane.ended()
    return screen


@pytest.fixture(scope="module")
def hostile() -> Iterator[World]:
    with world([*HOSTILE.values()]) as made:
        yield made


@pytest.fixture(scope="module")
def said(hostile: World, sstrace: Program, ss: Program, tmp_path_factory: pytest.TempPathFactory) -> Said:
    return say(hostile, tmp_path_factory.mktemp("ways"), sstrace, ss)


# -------------------------------------------------------------------------------------------------- names × ways out


def in_journal(data: list[bytes]) -> set[str]:
    fields = [field for message in data for field in journal_fields(message)]
    for key, value in fields:
        assert key != "MESSAGE" or value.isprintable(), value
    return {value for _, value in fields}


def in_syslog(data: list[bytes]) -> set[str]:
    return {text for message in messages(data) for text in values(json.loads(message))}


def in_records(data: list[tuple[dict[str, str], Any]]) -> set[str]:
    found = set()
    for about, record in data:
        assert record.body.string_value.isprintable()
        found |= {*about.values()} | {value for one in record.attributes for value in _attribute(one.value)}
    return found


def _attribute(value: Any) -> Iterator[str]:
    yield value.string_value
    for one in value.array_value.values:
        yield from _attribute(one)


PROGRAMS: dict[str, tuple[Callable[[Any], set[str]], str]] = {
    "native": (in_json, "comm device cgroup host"),
    "ecs": (in_json, "comm device cgroup host"),
    "otel": (in_json, "comm device cgroup host"),
    "output": (in_json, "comm device cgroup host"),
    "recording": (in_json, "comm device cgroup host"),
    "replay --json": (in_json, "comm device cgroup host"),
    "past --json": (in_json, "comm device cgroup"),
    "stats --json": (in_json, "comm"),
    "snapshot --json": (in_json, "comm device cgroup path abstract"),
    "syslog": (in_syslog, "comm device cgroup host"),
    "journald": (in_journal, "owner device cgroup"),
    "otlp": (in_records, "comm device cgroup host"),
}
"""Way out → its consumer, and which names it finds: themselves."""

PEOPLE: dict[str, tuple[Callable[[Any], str], str]] = {
    "text": (in_text, "comm device"),
    "syslog text": (lambda data: "\n".join(map(in_text_line, messages(data))), "comm device"),
    "replay": (in_text, "comm device"),
    "past": (in_text, "comm device cgroup"),
    "between": (in_text, ""),
    "stats": (in_text, "comm"),
    "watch": ("\n".join, "comm device"),
}
"""The same for what is read: there they are escaped."""


def in_text_line(text: str) -> str:
    assert text.isprintable()
    return text


def borne(made: World, names: Names, kinds: str) -> dict[str, bytes]:
    every = {**names._asdict(), "comm": comm(names), "cgroup": made.cgroup(names), "host": made.host}
    every["abstract"] = b"@" + names.abstract
    return {kind: every[kind] for kind in kinds.split() if every.get(kind) is not None}


NUMBERS = range(len(HOSTILE))


@pytest.mark.parametrize("number", NUMBERS, ids=HOSTILE)
@pytest.mark.parametrize("way", PROGRAMS)
def test_a_program_reads_the_name_itself(hostile: World, said: Said, way: str, number: int) -> None:
    read, kinds = PROGRAMS[way]
    found = read(said[way])
    names = hostile.names[number]
    if "owner" in kinds:
        assert any(text.startswith(f"{spelled(comm(names))}/") for text in found)
    for kind, name in borne(hostile, names, kinds.replace("owner", "")).items():
        assert spelled(name) in found, kind


@pytest.mark.parametrize("number", NUMBERS, ids=HOSTILE)
@pytest.mark.parametrize("way", PEOPLE)
def test_a_person_reads_it_escaped(hostile: World, said: Said, way: str, number: int) -> None:
    read, kinds = PEOPLE[way]
    found = read(said[way])
    for kind, name in borne(hostile, hostile.names[number], kinds).items():
        assert shown(name) in found, kind


def test_a_snapshot_is_that_of_ss_to_the_byte(hostile: World, said: Said) -> None:
    for ours, theirs in said["snapshot"]:
        assert (ours.stdout, ours.stderr, ours.returncode) == (theirs.stdout, theirs.stderr, theirs.returncode)
    text = b"".join(ours.stdout for ours, _ in said["snapshot"])
    for names in hostile.names:
        assert names.device in text


def test_so_is_that_of_a_server(said: Said) -> None:
    _, theirs = said["snapshot"][0]
    assert sorted(said["served"].splitlines()) == sorted(theirs.stdout.splitlines())


def test_labels_of_metrics(hostile: World, said: Said) -> None:
    labels = {
        sample.labels.get("sink")
        for family in text_string_to_metric_families(said["metrics"])
        for sample in family.samples
    }
    assert any(label is not None and label.endswith(f"/{spelled(hostile.names[0].group)}") for label in labels)


@pytest.mark.parametrize("sentence", range(5))
def test_sentences(hostile: World, said: Said, sentence: int) -> None:
    first, *rest = in_text(said["sentences"][sentence]).splitlines()
    assert first.startswith("sstrace: ")
    assert shown(hostile.names[0].group) in first
    assert rest in ([], ['Try "sstrace --help".'])


def test_the_name_of_a_network_namespace(sstrace: Program, netns: Netns) -> None:
    """Of ip-netns(8): a file's."""
    name = HOSTILE["escapes"] + HOSTILE["no-utf8"] + b'\n"%d' % os.getpid()  # no comma: several are a list
    netns.name = os.fsdecode(name)
    netns.publish()
    with netns.call(socket.create_server, ("127.0.0.1", 0)):
        for words in (("--snapshot", "--json", "-tln"), ("--json", "--duration", "10ms")):
            done = sstrace(*words, "--netns", netns.name)
            assert (done.returncode, b"a bug" in done.stderr) == (0, False), done.stderr
            assert spelled(name) in in_json(done.stdout)
        done = sstrace("--snapshot", "-Htln", "--netns", f"{netns.name},all")
        assert done.returncode == 0, done.stderr
        assert shown(name).encode() in done.stdout
