"""Options to masks, columns, transitions and early ends. (What ss itself says to the same words: tests/kernel.)"""

import subprocess
from collections.abc import Callable

import pytest
from smallworld import SmallWorld

from sstrace.dialect import Dialect, dialect
from sstrace.errors import LookupFailed, UsageError
from sstrace.lifecycle import TRANSITIONS
from sstrace.model import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_UNSPEC, AF_XDP, State, Table
from sstrace.query import states
from sstrace.query.catalog import OWN, SS
from sstrace.query.command import Command, Early, Mode, selects_row, selects_transition
from sstrace.query.options import mode_of, parse, resolve, version_of
from sstrace.query.usage import help_text, ss_usage

OLD, NEW = dialect((6, 1)), dialect((7, 1))
CONN = states.connected_states(OLD)


def command(line: str, release: Dialect = OLD, program: str = "ss") -> Command:
    result = parse([program, *line.split()], release=release)
    assert isinstance(result, Command)
    return result


def early(line: str, release: Dialect = OLD, program: str = "ss") -> Early:
    result = parse([program, *line.split()], release=release)
    assert isinstance(result, Early)
    return result


def tables(*members: Table) -> int:
    return sum(1 << member for member in members)


@pytest.mark.parametrize(
    ("line", "chosen", "families", "shown"),
    [
        ("", states.ALL_TABLES, None, CONN),
        ("-a", states.ALL_TABLES, None, states.all_states(OLD)),
        ("-t", tables(Table.TCP), 1 << AF_INET | 1 << AF_INET6, CONN),
        ("-u", tables(Table.UDP), 1 << AF_INET | 1 << AF_INET6, 1 << State.ESTABLISHED),
        ("-tu", tables(Table.TCP, Table.UDP), 1 << AF_INET | 1 << AF_INET6, CONN),
        ("-x", states.FAMILY_TABLES[AF_UNIX], 1 << AF_UNIX, CONN),
        ("-0", states.FAMILY_TABLES[AF_PACKET], 1 << AF_PACKET, 1 << State.CLOSE),
        ("-0t", states.FAMILY_TABLES[AF_PACKET] | 1, None, CONN | 1 << State.CLOSE),
        ("-f netlink", tables(Table.NETLINK), 1 << AF_NETLINK, 1 << State.CLOSE),
        ("--xdp", tables(Table.XDP), 1 << AF_XDP, 1 << State.CLOSE),
        ("-4", states.INET_TABLES, 1 << AF_INET, CONN),
        ("-4 -t", tables(Table.TCP), 1 << AF_INET, CONN),
        ("-x -t", states.FAMILY_TABLES[AF_UNIX] | 1, 1 << AF_UNIX | 1 << AF_INET | 1 << AF_INET6, CONN),
        ("-x -A tcp", states.FAMILY_TABLES[AF_UNIX] | 1, 1 << AF_UNIX | 1 << AF_INET | 1 << AF_INET6, CONN),
        ("-t -A udp", tables(Table.UDP), None, CONN),
        ("-A udp -t", tables(Table.UDP, Table.TCP), None, CONN),
        ("-A udp -A tcp", tables(Table.UDP, Table.TCP), None, CONN),
        ("-l -A udp", tables(Table.UDP), None, states.LISTENING),
        ("-A udp -l", tables(Table.UDP), None, states.LISTENING),
        ("-A netlink", tables(Table.NETLINK), None, CONN),
        ("-A all,!tcp,!udp", states.ALL_TABLES & ~tables(Table.TCP, Table.UDP), None, CONN),
        ("-A all,tipc", states.ALL_TABLES | tables(Table.TIPC), None, CONN),
        ("-t -a -l", 1, None, states.LISTENING),
        ("-t -l -a", 1, None, states.all_states(OLD)),
        ("-ta state established", 1, None, 1 << State.ESTABLISHED),
        ("-t state established state time-wait", 1, None, 1 << State.ESTABLISHED | 1 << State.TIME_WAIT),
        ("-tl exclude listening", 1, None, states.all_states(OLD) & ~(1 << State.LISTEN)),
        ("-t exclude listening state listening", 1, None, states.all_states(OLD)),
        ("-t exclude all", 1, None, CONN),
        ("-u exclude all", tables(Table.UDP), None, 1 << State.ESTABLISHED),
    ],
)
def test_what_is_selected(line: str, chosen: int, families: int | None, shown: int) -> None:
    selection = command(line).selection
    assert selection.tables == chosen
    assert selection.states == shown
    if families is not None:
        assert selection.families == families


@pytest.mark.parametrize(
    ("line", "family"),
    [("-4 -6", AF_INET6), ("-6 -4", AF_INET), ("-4 -x", AF_UNIX), ("-t", AF_UNSPEC), ("-f link", AF_PACKET)],
)
def test_the_last_family_is_preferred(line: str, family: int) -> None:
    assert command(line).selection.preferred == family


@pytest.mark.parametrize(
    ("line", "netid", "state"),
    [
        ("-t", False, True),
        ("-u", False, False),
        ("-ua", False, True),
        ("-x", True, True),
        ("-0", True, False),
        ("-4 -t", False, True),
        ("-f netlink", False, False),
        ("-A udp", False, True),
        ("-t state closed", False, False),
        ("", True, True),
    ],
)
def test_columns_hide_by_counting_bits(line: str, *, netid: bool, state: bool) -> None:
    show = command(line).show
    assert (show.netid, show.state) == (netid, state)


def test_show() -> None:
    show = command("-noemiTHOb --tos --cgroup --inet-sockopt --tipcinfo -r").show
    assert show.numeric
    assert show.resolve
    assert show.timers
    assert show.extended
    assert show.memory
    assert show.info
    assert show.threads
    assert show.oneline
    assert show.bpf
    assert show.tos
    assert show.cgroup
    assert show.inet_sockopt
    assert show.tipcinfo
    assert not show.header
    assert not show.processes
    assert command("-e").show.timers
    assert command("-b").show.timers
    assert not command("-t").show.timers
    assert command("-p").show.processes


@pytest.mark.parametrize(("line", "contexts"), [("-Z", 1), ("-z", 2), ("-zz", 2), ("-Z -z", 1), ("-zZZ", 2), ("-t", 0)])
def test_contexts_count_as_ss_counts_them(line: str, contexts: int) -> None:
    assert command(line).show.contexts == contexts


def test_options_of_later_releases() -> None:
    for line in ("-B", "-Q", "--bound-inactive", "--no-queues", "--bpf-maps", "--bpf-map-id=5"):
        with pytest.raises(UsageError) as caught:
            parse(["ss", *line.split()], release=OLD)
        assert caught.value.usage
    assert command("-tB", NEW).selection.states == 1 << State.BOUND_INACTIVE
    assert not command("-tQ", NEW).show.queues
    assert command("--bpf-maps", NEW).show.bpf_maps
    chosen = command("--bpf-map-id=5 --bpf-map-id 7", NEW)
    assert chosen.show.bpf_maps
    assert chosen.selection.bpf_map_ids == (5, 7)
    for line in ("--bpf-maps --bpf-map-id 5", "--bpf-map-id 5 --bpf-maps", "--bpf-map-id x", "--bpf-map-id 4294967296"):
        with pytest.raises(LookupFailed, match=r"--bpf-maps|invalid BPF map ID"):
            parse(["ss", *line.split()], release=NEW)


def test_usage_of_the_installed_release() -> None:
    try:
        printed = subprocess.run(["ss", "-h"], capture_output=True, check=True).stdout
        version = subprocess.run(["ss", "-V"], capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no ss here")
    if b"iproute2-6.1." not in version:
        pytest.skip("another ss")
    assert early("-h").stdout.encode() == printed
    assert early("-f help").stdout.encode() == printed
    assert early("-V").stdout.encode() == version


def test_usage_grows_with_releases() -> None:
    lines = {version: set(ss_usage(dialect(version)).splitlines()) for version in ((6, 1), (6, 8), (6, 9), (7, 1))}
    assert {line.split()[0] for line in lines[6, 8] - lines[6, 1]} == {"-B,"}
    assert {line.split()[0] for line in lines[6, 9] - lines[6, 8]} == {"-Q,", "--bpf-maps", "--bpf-map-id=MAP-ID"}
    assert lines[7, 1] == lines[6, 9]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("-A !tcp", "ss: no socket tables to show with such filter.\n"),
        ("-u -D -", "ss: tcpdiag dump requested and no tcp in filter.\n"),
    ],
)
def test_nothing_to_show_is_no_error(line: str, sentence: str) -> None:
    assert early(line) == Early("", sentence, 0)


def test_a_summary_comes_before_what_follows() -> None:
    alone = command("-s")
    assert alone.selection.summary
    assert not alone.selection.listing
    assert command("-sa").selection.listing is False
    assert command("-s -t").selection.listing
    assert command("-s state established").selection.listing
    wrong = command("-s -t state nope")
    assert wrong.stop == Early("", "ss: wrong state name: nope\n", 255)
    assert command("-s -A !tcp").stop == Early("", "ss: no socket tables to show with such filter.\n", 0)


@pytest.mark.parametrize(
    ("line", "sentence", "usage"),
    [
        ("-f foo", 'ss: "foo" is invalid family', True),
        ("-A foo", 'ss: "foo" is illegal socket table id', True),
        ("-A tcp,", 'ss: "" is illegal socket table id', True),
        ("-A !x", 'ss: "!x" is illegal socket table id', True),
        ("-y", "ss: invalid option -- 'y'", True),
        ("-t state listen", "ss: wrong state name: listen", False),
        ("-t state", 'Command line is not complete. Try option "help"', False),
        ("-F a -F b", "More than one filter file", False),
    ],
)
def test_mistakes(line: str, sentence: str, *, usage: bool) -> None:
    with pytest.raises(UsageError) as caught:
        command(line)
    assert str(caught.value) == sentence
    assert caught.value.usage is usage
    assert caught.value.exit_code == 255


def test_getopt_begins_with_the_name_as_typed_only_where_it_is_ss() -> None:
    for program, extra, begins in (
        ("/opt/bin/ss", [], "/opt/bin/ss: "),
        ("ss", [], "ss: "),
        ("/opt/bin/sstrace", ["--snapshot"], "ss: "),
        ("/opt/bin/sstrace", [], "sstrace: "),
    ):
        with pytest.raises(UsageError) as caught:
            parse([program, "-y", *extra], release=OLD)
        assert str(caught.value) == f"{begins}invalid option -- 'y'"


class Recorder:
    """Effects that only say that they were called; the second of a kind of name fails."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def enter_netns(self, name: str) -> None:
        self.calls.append(f"netns {name}")
        if name == "none":
            raise LookupFailed("no such namespace")

    def require_selinux(self) -> None:
        self.calls.append("selinux")

    def open_filter(self, path: str) -> Callable[[], bytes]:
        self.calls.append(f"open {path}")
        return lambda: b"sport = :22\n"


def test_effects_happen_where_the_options_stand() -> None:
    effects = Recorder()
    with pytest.raises(UsageError, match="invalid option"):
        parse(["ss", "-N", "blue", "-F", "-", "-Z", "-y", "-N", "red"], release=OLD, effects=effects)
    assert effects.calls == ["netns blue", "open -", "selinux"]
    effects = Recorder()
    with pytest.raises(LookupFailed):
        parse(["ss", "-N", "none", "-y"], release=OLD, effects=effects)
    effects = Recorder()
    result = parse(["ss", "-t", "-N", "blue", "-Ffile", "dport", "5", "or"], release=OLD, effects=effects)
    assert isinstance(result, Command)
    assert result.selection.netns == "blue"
    assert resolve(result, SmallWorld()).selection.filter is not None


def test_a_raw_dump_does_not_look_at_the_filter() -> None:
    dumped = command("-t -D /dev/null sport = = (")
    assert resolve(dumped, SmallWorld()) == dumped


def test_operands_narrow_the_families() -> None:
    narrowed = resolve(command("-a src unix:/x"), SmallWorld()).selection
    assert narrowed.families == 1 << AF_UNIX
    assert narrowed.preferred == AF_UNIX
    assert narrowed.tables == states.ALL_TABLES
    assert narrowed.states == states.all_states(OLD)
    open_ended = resolve(command("-a sport = :5"), SmallWorld()).selection
    assert open_ended.families == command("-a").selection.families


# ------------------------------------------------------------------------------------------------------ sstrace's modes


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        (["sstrace"], Mode.TRACE),
        (["sstrace", "-t", "--snapshot"], Mode.SNAPSHOT),
        (["sstrace", "--serve=/x"], Mode.SERVE),
        (["sstrace", "--watch"], Mode.WATCH),
        (["sstrace", "--verify"], Mode.VERIFY),
        (["sstrace", "--doctor"], Mode.DOCTOR),
        (["/somewhere/ss"], Mode.SNAPSHOT),
        (["/somewhere/ss", "--watch"], Mode.WATCH),
    ],
)
def test_modes(words: list[str], mode: Mode) -> None:
    parsed = parse(words, release=OLD)
    assert isinstance(parsed, Command)
    assert parsed.mode is mode
    if mode is not Mode.WATCH or words[0] == "sstrace":
        assert mode_of(words) is mode


def test_tracing_means_tcp_unless_told_otherwise() -> None:
    assert command("", program="sstrace").selection.tables == 1
    four = command("-4", program="sstrace").selection
    assert (four.tables, four.families) == (1, 1 << AF_INET)
    assert command("--watch", program="sstrace").selection.tables == 1
    assert command("--snapshot", program="sstrace").selection.tables == states.ALL_TABLES


@pytest.mark.parametrize(
    ("line", "old", "new", "selected"),
    [
        ("", State.CLOSE, State.SYN_SENT, True),
        ("from syn-sent", State.SYN_SENT, State.ESTABLISHED, True),
        ("from syn-sent", State.SYN_RECV, State.ESTABLISHED, False),
        ("to established", State.SYN_RECV, State.ESTABLISHED, True),
        ("to established", State.ESTABLISHED, State.FIN_WAIT1, False),
        ("from syn-sent to established", State.SYN_SENT, State.CLOSE, False),
        ("from syn-sent from syn-recv to estab", State.SYN_RECV, State.ESTABLISHED, True),
        ("from syn-sent,syn-recv", State.SYN_RECV, State.CLOSE, True),
        ("state established", State.ESTABLISHED, State.FIN_WAIT1, True),
        ("state established", State.SYN_SENT, State.ESTABLISHED, True),
        ("state established", State.CLOSE, State.SYN_SENT, False),
        ("exclude time-wait", State.FIN_WAIT2, State.TIME_WAIT, False),
        ("exclude time-wait", State.FIN_WAIT1, State.FIN_WAIT2, True),
        ("state all exclude time-wait", State.TIME_WAIT, State.CLOSE, False),
        ("exclude time-wait state time-wait", State.TIME_WAIT, State.CLOSE, True),
        ("-l", State.CLOSE, State.LISTEN, True),
        ("-l", State.LAST_ACK, State.CLOSE, False),
        ("-E", State.LAST_ACK, State.CLOSE, True),
        ("-E", State.SYN_SENT, State.ESTABLISHED, False),
    ],
)
def test_transitions(line: str, old: int, new: int, *, selected: bool) -> None:
    assert selects_transition(command(line, program="sstrace").selection, old, new) is selected


@pytest.mark.parametrize(
    ("line", "states"),
    [
        ("", "every one"),
        ("-a", "every one"),
        ("-l", "LISTEN"),
        ("state established", "ESTABLISHED"),
        ("state established state listening", "ESTABLISHED LISTEN"),
        ("from syn-sent to closed", "SYN_SENT"),
        ("from established,time-wait", "ESTABLISHED TIME_WAIT"),
        ("to close-wait", "SYN_RECV ESTABLISHED"),
        ("to established", "SYN_SENT SYN_RECV"),
        ("to closed exclude listening", "every one but LISTEN CLOSE"),
        ("from established to syn-sent", ""),
        ("state established from syn-sent", ""),
        ("ended", "every one but CLOSE LISTEN TIME_WAIT"),
        ("ended from syn-sent", "SYN_SENT"),
    ],
)
def test_rows_of_a_trace(line: str, states: str) -> None:
    """Those from whose state a selected transition may come next."""
    selection = command(line, program="sstrace").selection
    kept = {State(old) for old in TRANSITIONS if selects_row(selection, old, TRANSITIONS[old])}
    named = {State[name] for name in states.removeprefix("every one").removeprefix(" but").split()}
    assert kept == (TRANSITIONS.keys() - named if states.startswith("every one") else named)


@pytest.mark.parametrize("line", ["ended", "--json ended dport = :5432", "to closed ended", "--replay day ended"])
def test_ended_selects_ends(line: str) -> None:
    found = command(line, program="sstrace")
    assert found.selection.ended
    assert "ended" not in found.operands


@pytest.mark.parametrize("line", ["dport = :80", "--snapshot ended", "--watch ended"])
def test_ended_is_a_word_of_a_trace_alone(line: str) -> None:
    assert not command(line, program="sstrace").selection.ended


def test_from_and_to_are_words_of_a_trace_only() -> None:
    assert command("--snapshot from syn-sent", program="sstrace").operands == ("from", "syn-sent")
    with pytest.raises(UsageError, match='sstrace: "nowhere" is no state: '):
        command("from nowhere", program="sstrace")


@pytest.mark.parametrize("line", ["-s", "-K -t", "-t -D -"])
def test_what_belongs_to_a_snapshot(line: str) -> None:
    with pytest.raises(UsageError, match="--snapshot"):
        command(line, program="sstrace")


def test_help_of_sstrace_is_its_own() -> None:
    assert early("--help", program="sstrace").stdout == help_text()
    assert early("--snapshot --help", program="sstrace").stdout == ss_usage(OLD)
    assert early("-V", program="sstrace").stdout.startswith("sstrace ")
    assert max(map(len, help_text().splitlines())) <= 80


def test_the_short_help_is_one_screen_and_true() -> None:
    lines = early("-h", program="sstrace").stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    shown = [line.split("  ")[1].strip() for line in lines if line.startswith("   sstrace")]
    assert len(shown) >= 10
    for words in shown:
        assert isinstance(parse(words.split()), Command), words


def test_help_names_every_option_of_its_own() -> None:
    for entry in (*OWN, *SS):
        assert f"--{entry.name}" in help_text() or f" -{entry.option.key}" in help_text(), entry.name


def test_held_is_known_where_time_is() -> None:
    world = SmallWorld()
    traced = resolve(command("held > 5m", program="sstrace"), world)
    assert traced.selection.filter is not None
    live = resolve(command("--snapshot --from live held > 5m", program="sstrace"), world)
    assert live.selection.filter is not None
    with pytest.raises(LookupFailed, match="inet prefix"):
        resolve(command("--snapshot held > 5m", program="sstrace"), world)


def test_version_of() -> None:
    assert version_of(["ss", "--ss-version=6.1"]) == (6, 1)
    assert version_of(["ss", "--ss-version", "7.1"]) == (7, 1)
    assert version_of(["ss", "--ss-version"]) is None
    assert version_of(["ss", "--ss-version", "x"]) is None
    assert version_of(["ss", "--", "--ss-version", "7.1"]) is None
    parsed = parse(["sstrace", "--snapshot", "--ss-version", "6.9", "-Q"])
    assert isinstance(parsed, Command)
    assert parsed.dialect.version == (6, 9)
