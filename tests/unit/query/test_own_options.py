"""sstrace's own options: values, and one sentence for each mistake."""

import pytest

from sstrace.dialect import dialect
from sstrace.errors import UsageError
from sstrace.query.catalog import OWN, SS
from sstrace.query.command import Command, Mode, Own, Source, When
from sstrace.query.options import parse
from sstrace.query.own_options import parse_when
from sstrace.query.quantity import parse_duration, parse_size

S = 10**9


def own(*words: str) -> Own:
    parsed = parse(["sstrace", *words], release=dialect((6, 1)))
    assert isinstance(parsed, Command)
    return parsed.own


def test_no_own_name_shortens_or_hides_an_option_of_ss() -> None:
    for option in (entry.option for entry in OWN):
        assert option.whole
        if option.name == "events":
            continue  # in --snapshot it is ss's, elsewhere ours
        assert not any(theirs.name.startswith(option.name) for theirs in SS), option.name


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5", 5 * S),
        ("1.5s", 15 * S // 10),
        ("250ms", S // 4),
        ("7us", 7000),
        ("9ns", 9),
        ("5m", 300 * S),
        ("2h", 7200 * S),
        ("1d", 86400 * S),
        (".5", S // 2),
        ("0", 0),
        ("0.000000001", 1),
        ("1.", S),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", ".", "s", "-1", "+1", "1x", "1 s", "1.2.3", "1e3", "9" * 50, "99999d", "٣", "1M"])
def test_no_durations(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("1k", 1024), ("100M", 100 << 20), ("2GB", 2 << 30), ("1.5KiB", 1536), ("1T", 1 << 40), ("5b", 5)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "1kk", "-5", "1 M", "\u212a", "1\u212a"])
def test_no_sizes(text: str) -> None:
    assert parse_size(text) is None


@pytest.mark.parametrize(
    ("text", "kind", "ns"),
    [
        ("1970-01-01T00:00:05Z", "utc", 5 * S),
        ("1970-01-01T00:00:05.25Z", "utc", 525 * S // 100),
        ("1970-01-01T00:00:05.123456789Z", "utc", 5123456789),
        ("1970-01-01T02:00:05+02:00", "utc", 5 * S),
        ("1970-01-01 00:00:05", "local", 5 * S),
        ("1970-01-02", "local", 86400 * S),
        ("13:55", "clock", 50100 * S),
        ("13:55:01.000000007", "clock", 50101 * S + 7),
        ("@1769867700.5", "utc", 17698677005 * S // 10),
        ("13:55:01.000001", "clock", 50101 * S + 1000),
        ("@1769867700.1234567", "utc", 1769867700 * S + 123456700),
        ("+90", "start", 90 * S),
        ("-5m", "end", 300 * S),
    ],
)
def test_moments(text: str, kind: str, ns: int) -> None:
    when = parse_when(text)
    assert when is not None
    assert (when.kind, when.ns, when.text) == (kind, ns, text)
    digits = len(text.partition(".")[2].rstrip("Z"))
    assert when.open_ns == {6: 999, 7: 99}.get(digits, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "25:00",
        "13",
        "+",
        "-",
        "@",
        "@x",
        "1970-13-01",
        "1969-12-31T00:00:00Z",
        "13:55Z",
        "@" + "9" * 30,
        "\xe9",
    ],
)
def test_no_moments(text: str) -> None:
    assert parse_when(text) is None


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--snapshot --from=rec", "source", Source("file", "rec")),
        ("--snapshot --from rec --at +5", "at", When("start", 5 * S, "+5")),
        ("--replay a --between +1 -2", "between", (When("start", S, "+1"), When("end", 2 * S, "-2"))),
        ("--replay=a --replay b", "replay", ("a", "b")),
        ("--record r", "record", "r"),
        ("--record r --rotate 1M --keep 3", "rotate_bytes", 1 << 20),
        ("--record r --rotate 1M --keep 3", "keep", 3),
        ("--stats", "stats", True),
        ("--json --schema ecs", "json", True),
        ("--json --schema ecs", "schema", "ecs"),
        ("--duration 5", "duration_ns", 5 * S),
        ("--count 7", "count", 7),
        ("--ready-file p", "ready_file", "p"),
        ("--verify --interval 2", "interval_ns", 2 * S),
        ("--poll=3", "poll_ns", 3 * S),
        ("--ss-version 6.1", "ss_version", (6, 1)),
        ("--serve --group g", "group", "g"),
        ("--serve --keep-privileges", "keep_privileges", True),
        ("--on-full drop", "on_full", "drop"),
        ("--metrics", "metrics", ("127.0.0.1", 9435)),
        ("--output o", "output", "o"),
        ("--sink s --sink=t", "sink", ("s", "t")),
        ("--replay r --speed 10x", "speed", 10.0),
        ("--color never", "color", "never"),
        ("--self-usage", "self_usage", True),
        ("--debug", "debug", True),
        ("--json --no-baseline", "no_baseline", True),
        ("--time delta", "time", "delta"),
    ],
)
def test_each_option_has_its_field(words: str, field: str, value: object) -> None:
    assert getattr(own(*words.split()), field) == value


def test_nothing_given_is_nothing() -> None:
    assert own() == Own()


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("netlink", Source("netlink")),
        ("live", Source("live")),
        ("live:/run/s", Source("live", "/run/s")),
        ("./netlink", Source("file", "./netlink")),
    ],
)
def test_sources(word: str, source: Source) -> None:
    assert own("--snapshot", "--from", word).source == source


@pytest.mark.parametrize(
    ("value", "address"),
    [("9000", ("127.0.0.1", 9000)), ("0.0.0.0:1", ("0.0.0.0", 1)), (":80", ("", 80)), ("[::1]:80", ("::1", 80))],
)
def test_metrics(value: str, address: tuple[str, int]) -> None:
    assert own(f"--metrics={value}").metrics == address


def test_serve_takes_its_path_after_the_sign() -> None:
    parsed = parse(["sstrace", "--serve=/run/x"])
    assert isinstance(parsed, Command)
    assert (parsed.mode, parsed.own.serve_path) == (Mode.SERVE, "/run/x")
    parsed = parse(["sstrace", "--serve"])
    assert isinstance(parsed, Command)
    assert (parsed.mode, parsed.own.serve_path) == (Mode.SERVE, None)


def test_paths_are_given_back_as_the_system_takes_them() -> None:
    typed = "/tmp/é".encode().decode("latin-1")
    assert own("--record", typed).record == "/tmp/é"
    assert own("--record", "\xff").record == "\udcff"


@pytest.mark.parametrize(
    ("text", "size", "seconds"),
    [
        ("100M", 100 << 20, None),
        ("1h", None, 3600),
        ("90s", None, 90),
        ("2G,1d", 2 << 30, 86400),
        ("5m", 5 << 20, None),
    ],
)
def test_rotation_is_by_size_by_time_or_both(text: str, size: int | None, seconds: int | None) -> None:
    given = own("--record", "r", "--rotate", text)
    assert given.rotate_bytes == size
    assert given.rotate_ns == (None if seconds is None else seconds * 10**9)


@pytest.mark.parametrize(
    "words",
    [
        ["--record", "r", "--rotate", "1M,soon"],
        ["--duration", "soon"],
        ["--duration", "0"],
        ["--interval="],
        ["--poll", "-1"],
        ["--count", "0"],
        ["--count", "x"],
        ["--count", "9" * 40],
        ["--record", "r", "--rotate", "1M", "--keep", "-3"],
        ["--record", "r", "--rotate", "big"],
        ["--record", "r", "--rotate", "0"],
        ["--keep", "3"],
        ["--rotate", "3M"],
        ["--schema", "ecs"],
        ["--json", "--schema", "xml"],
        ["--on-full", "explode"],
        ["--color", "blue"],
        ["--columns", "time,cuase"],
        ["--columns", ""],
        ["--columns", "time", "--json"],
        ["--columns", "time", "--snapshot"],
        ["--speed", "10"],
        ["--replay", "r", "--speed", "0"],
        ["--replay", "r", "--speed", "fast"],
        ["--replay", "r", "--speed", "9999999999"],
        ["--metrics=x"],
        ["--metrics=1.2.3.4"],
        ["--metrics=70000"],
        ["--metrics="],
        ["--at", "13:00"],
        ["--from", "f", "--at", "lunch"],
        ["--between", "13:00", "14:00"],
        ["--from", "f", "--between", "13:00", "x"],
        ["--from", "f", "--between", "13:00"],
        ["--from", ""],
        ["--from", "live:"],
        ["--record", ""],
        ["--serve="],
        ["--snapshot", "--watch"],
        ["--ss-version", "six"],
        ["--snap"],
        ["--json=1"],
        ["held", ">", "5m", "--held"],
    ],
)
def test_mistakes_are_one_sentence(words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        own(*words)
    text = str(caught.value)
    assert text.startswith("sstrace: ") or "option" in text
    assert "\n" not in text


def test_engines_are_recorders_and_no_sinks() -> None:
    both = own("--sink", "clickhouse:http://a", "--sink", "stdout", "--spool", "/d,2G", "state", "established")
    assert (both.engines, both.sink, both.spool) == (("clickhouse:http://a",), ("stdout",), "/d,2G")
    assert own("--fleet-schema=replicated").replicated
    for words, said in (
        (["--sink", "clickhouse:http://a", "dport", "=", "5"], "leave the filter away, and give it when you ask"),
        (
            ["--sink", "clickhouse:http://a", "--replay", "x", "--count", "3"],
            "leave --count away, and give it when you ask",
        ),
        (["--spool", "/d"], "--spool means nothing without --sink clickhouse"),
        (["--fleet-schema=cluster"], "it is replicated, or nothing"),
        (["--fleet-schema", "--json"], "--json means nothing to --fleet-schema"),
    ):
        with pytest.raises(UsageError, match=said):
            own(*words)
