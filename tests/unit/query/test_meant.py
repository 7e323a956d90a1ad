"""Words that sstrace does not know, each answered by one that it does; what is suggested can be typed."""

import re

import pytest
from smallworld import SmallWorld

from sstrace.dialect import dialect
from sstrace.errors import LookupFailed, SstraceError, UsageError
from sstrace.query.command import Command, Early
from sstrace.query.filter import gathered
from sstrace.query.options import parse, resolve
from sstrace.query.usage import help_text

RELEASE = dialect((7, 1))


def read(*words: str) -> Command:
    command = parse(["sstrace", *words], release=RELEASE)
    assert isinstance(command, Command)
    return resolve(command, SmallWorld())


SUGGESTED = re.compile(
    r"(?:mean|is|with|or|write|,) ((?:-|src|dst|[sd]?port|host|comm|pid|user|dev|fwmark|cgroup|held|state)[^?,;]+?)"
    r"(?=[?,;]| or |$)"
)


def sentence(line: str) -> str:
    """What is said of a command line; every command that it suggests is typed."""
    with pytest.raises(SstraceError) as caught:
        read(*line.split())
    said = str(caught.value)
    assert said.startswith("sstrace: ")
    assert "\n" not in said
    for found in SUGGESTED.findall(said):
        read(*found.split())
    return said.removeprefix("sstrace: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("watch", '"watch" is no filter: did you mean --watch?'),
        ("Snapshot", '"Snapshot" is no filter: did you mean --snapshot?'),
        ("tcp", '"tcp" is no filter: did you mean -t?'),
        ("udp", '"udp" is no filter: did you mean -u?'),
        ("unix", '"unix" is no filter: did you mean -x?'),
        ("mptcp", '"mptcp" is no filter: did you mean -M?'),
        ("-p 1234", '"1234" is no filter: a port is port 1234, a process is pid 1234'),
        ("process nginx", '"process" is no filter: a process is pid 4711 or comm nginx'),
        (
            "--watch --replay day.ndjson rtt > 1s",
            '"rtt" is no filter: --watch --replay FILE does not know rtt: --replay FILE does',
        ),
        ("--watch cause refused", '"cause" is no filter: --watch does not know cause: a trace does'),
        (
            "--verify held > 5m",
            '"held" is no filter: --verify does not know held: a trace and --watch do',
        ),
        ("comn postgres", '"comn" is no filter: did you mean comm postgres?'),
        ("cause reset", 'cause "reset" is none: one is reset-received, reset-sent'),
        ("cause resett-sent", 'cause "resett-sent" is none: did you mean reset-sent?'),
        ("role peer", 'role "peer" is none: one is client, server'),
        ("pid nginx", 'pid "nginx" is not a number: a process by its name is comm nginx'),
        ("--stats r1.ndjson", '"r1.ndjson" is no filter: a recording is counted with --stats --from r1.ndjson'),
        ("--watch r1.gz", '"r1.gz" is no filter: a recording is gone through with --watch --replay r1.gz'),
        ("rtt > 5 ms", '"ms" is no filter: a number and its unit are one word, as in held > 5ms'),
        ("sent > 10 k", '"k" is no filter: a number and its unit are one word, as in sent > 10k'),
        ("--stats --html -", "--html has a file of its own, as --stats writes on standard output: name one"),
        ("pid 7,8", 'pid "7,8" is several: write pid 7 or pid 8'),
        ("user nosuch", "there is no user nosuch"),
        ("--stats --html --json", "--html needs a name, and --json is an option: ./--json is a file of that name"),
        ("port = x", '"x" is no port, and no service of that name is known'),
        ("pid >= 7", "pid cannot be compared by >=: write pid 4711"),
        ("comm", "comm needs something to compare with: comm nginx"),
        ("held soon", 'held "soon" is not a time: write 5, 1.5s, 200ms, 5m or 2h'),
        (":443", '":443" is no filter: a port is port :443, or sport = :443, or dport = :443'),
        ("dport = :80 :443", '":443" is no filter: a port is port :443, or sport = :443, or dport = :443'),
        ("10.0.0.1", '"10.0.0.1" is no filter: an address is host 10.0.0.1, or src 10.0.0.1, or dst 10.0.0.1'),
        (
            "10.0.0.0/8",
            '"10.0.0.0/8" is no filter: an address is host 10.0.0.0/8, or src 10.0.0.0/8, or dst 10.0.0.0/8',
        ),
        ("fe80::1", '"fe80::1" is no filter: an address is host [fe80::1], or src [fe80::1], or dst [fe80::1]'),
        ("[::1]:22", '"[::1]:22" is no filter: an address is host [::1]:22, or src [::1]:22, or dst [::1]:22'),
        (
            "r1.ndjson",
            '"r1.ndjson" is no filter: a recording is read with --replay r1.ndjson, or --snapshot --from r1.ndjson',
        ),
        (
            "r(1).gz",
            '"r(1).gz" is no filter: a recording is read with --replay r(1).gz, or --snapshot --from r(1).gz',
        ),
        ("not((port 80)", '"not((port" is no filter: a blank stands before "(", as in not ((port'),
        ("established", '"established" is no filter: did you mean state established?'),
        ("sprot = :1", '"sprot" is no filter: did you mean sport = :1?'),
        ("recieved > 1", '"recieved" is no filter: did you mean received > 1?'),
        ("recieved>1 and dport = :443", '"recieved>1" is no filter: did you mean received > 1?'),
        ("sport = :1 lifetme ge 3s", '"lifetme" is no filter: did you mean lifetime ge 3s?'),
        ("hled > 5x", '"hled" is no filter: did you mean held > 5m?'),
        ("pidd", '"pidd" is no filter: did you mean pid 4711?'),
        ("stat syn-sent", '"stat" is no filter: did you mean state syn-sent?'),
        ("stat syn-snt", '"stat" is no filter: did you mean state established?'),
        ("--watch to established", '"to" is no filter: from and to are of events; a table has state and exclude'),
        (
            "nginx",
            '"nginx" is no filter: a program is comm nginx; other tests are src 10.0.0.1, dport = :443, port 443, '
            "held > 5m or state established; sstrace --help has them all",
        ),
        (
            "+x",
            '"+x" is no filter: one is src 10.0.0.1, dport = :443, port 443, comm nginx, held > 5m or '
            "state established; sstrace --help has them all",
        ),
        ("--snaphot", "unrecognized option '--snaphot'; did you mean --snapshot?"),
        ("--wach", "unrecognized option '--wach'; did you mean --watch?"),
        ("--snap -t", "unrecognized option '--snap'; did you mean --snapshot?"),
        ("-watch", "invalid option -- 'c'; did you mean --watch?"),
        ("--xyzzy", "unrecognized option '--xyzzy'"),
        ("dport = 99999", "ports go from 0 to 65535, and 99999 is none"),
        ("sport > 70000", "ports go from 0 to 65535, and 70000 is none"),
        ("dst 10.0.0.1:65536", "ports go from 0 to 65535, and 65536 is none"),
        ("dst nosuch.invalid", '"nosuch.invalid" is no address, and no host of that name is known'),
        ("dport = :nosuch", '"nosuch" is no port, and no service of that name is known'),
        ("dev nosuch", "there is no device nosuch"),
        ("cgroup /nosuch", "there is no cgroup /nosuch"),
        ("fwmark = x", '"x" is no mark: write fwmark = 7 or fwmark = 1/255'),
        ("sport", "sport needs something to compare with: sport = :443"),
        ("src >= 10.0.0.1", "src cannot be compared by >=: write src 10.0.0.1"),
        ("sport = :1 and", "the filter is not complete"),
        ("and sport = :1", '"and" stands before a test'),
        ("( sport = :1", 'a "(" is not closed'),
        ("(sport = :1", 'a "(" is not closed'),
        ("port 80,443", '"80,443" is several: write port 80 or port 443'),
        ("dport = :80-90", '"80-90" is a range: write port >= 80 and port <= 90'),
        ("--pid 4711", "unrecognized option '--pid': it is a word of the filter, written without dashes: pid 4711"),
        (
            "--user",
            "unrecognized option '--user': it is a word of the filter, written without dashes: user www-data",
        ),
        ("--metrics 9435", '"9435" is no filter: did you mean --metrics=9435?'),
        ("--watch --metrics :9435 port 80", '":9435" is no filter: did you mean --metrics=:9435?'),
        ("help port", '"help" is no filter: sstrace --help has it'),
        ("sport = :1 )", '")" stands behind a whole test'),
        ("to", "to which state?"),
        ("sport = :1 or to established", '"to" is always joined by "and": "or", "not" and parentheses are for tests'),
        ("to established or sport = :1", '"to" is always joined by "and": "or", "not" and parentheses are for tests'),
        ("not state established", '"state" is always joined by "and": "or", "not" and parentheses are for tests'),
    ],
)
def test_what_is_said_of_words_that_are_not_known(line: str, said: str) -> None:
    assert sentence(line) == said


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("recieved > 1", "did you mean received > 1?"),
        ("sport = :1 and comn nginx", "did you mean comm nginx?"),
        ("comm=nginx", "did you mean comm = nginx?"),
        ("cause refused", "--snapshot does not know cause: a trace does"),
        ("held > 5m", "--snapshot does not know held: a trace and --watch do"),
        ("netns web", "netns selects among the namespaces of --netns all"),
        ("sprot = :1", ""),  # ss's own
        ("example", ""),
        ("unix", ""),  # an option of ss's
        ("inet6 = x", ""),
        ("dst nosuch.invalid", ""),
        ("sport = :1 and", ""),
    ],
)
def test_of_a_snapshot_ss_s_sentence_stays_and_a_word_of_ours_is_told_behind_it(line: str, hint: str) -> None:
    with pytest.raises(SstraceError) as caught:
        read("--snapshot", "-t", *line.split())
    assert not str(caught.value).startswith("sstrace: ")
    assert "did you mean" not in str(caught.value)
    assert caught.value.hint == hint
    if hint.startswith("did you mean "):
        read("--snapshot", "-t", *hint.removeprefix("did you mean ").rstrip("?").split())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-u rtt > 5ms", "rtt is known of TCP sockets, not of UDP ones"),
        ("-x sent > 1k", "sent is known of raw, UDP and TCP sockets, not of unix ones"),
        ("--snapshot -u sent > 1k", "sent is known of TCP sockets, not of UDP ones"),
        ("--snapshot -A netlink user root", "user is known of"),
        ("--snapshot -x unit ssh or container 0123", "unit is known of"),
    ],
)
def test_what_no_socket_that_is_selected_has_is_no_filter(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*line.split())
    assert str(caught.value).startswith(f"sstrace: {said}")
    several = "--snapshot -a" if "--snapshot" in line else "-tu"
    read(*several.split(), *line[line.index(said.split(maxsplit=1)[0]) :].split())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("port 80 and (comm shop or comm x)", "port 80 and ( comm shop or comm x )"),
        ("!(port=80)", "! ( port = 80 )"),
        ("((port 80) or comm=x)", "( ( port 80 ) or comm = x )"),
        ("comm hold(er", "comm hold(er"),
        ("(comm hold(er))", "( comm hold(er) )"),
        ("(state established)", "( state established )"),
    ],
)
def test_parentheses_may_stand_at_their_words(typed: str, meant: str) -> None:
    assert gathered([typed], {}) == ([meant] if typed == meant else meant.split())


def test_help_helps() -> None:
    assert parse(["sstrace", "help"]) == Early(help_text())


@pytest.mark.parametrize(
    "line",
    [
        "dport = :443 to established",
        "dport = :443 and to established",
        "to established and dport = :443",
        "to established dport = :443",
        "to ESTAB dport = :443",
    ],
)
def test_states_may_stand_anywhere_in_a_filter(line: str) -> None:
    found, plain = read(*line.split()).selection, read("to", "established", "dport", "=", ":443").selection
    assert (found.to_states, found.filter) == (plain.to_states, plain.filter)
    assert read(line).selection == found


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("port=443", "port = 443"),
        ("dport=:443 and sport>=1024", "dport = :443 and sport >= 1024"),
        ("dport!=443", "dport != 443"),
        ("( pid=7 or comm=nginx ) held>5m", "( pid = 7 or comm = nginx ) held > 5m"),
        ("not user=0", "not user = 0"),
        ("state=established dport==:443", "state established dport = :443"),
        ("cause=reset-sent", "cause = reset-sent"),
    ],
)
def test_a_test_may_be_written_without_blanks(line: str, meant: str) -> None:
    found, plain = read(*line.split()).selection, read(*meant.split()).selection
    assert (found.filter, found.touch) == (plain.filter, plain.touch)
    assert read(line).selection == found


@pytest.mark.parametrize("line", ["comm a=b", "comm = port=443", "unit x>y"])
def test_what_is_compared_with_stays_as_it_is(line: str) -> None:
    expression = read(*line.split()).selection.filter
    assert expression is not None
    assert getattr(expression, "value", None) == line.rsplit(maxsplit=1)[-1]


def test_a_host_may_be_called_as_a_state_word() -> None:
    with pytest.raises(LookupFailed, match='"to" is no address'):
        read("dst", "to")


@pytest.mark.parametrize(
    "line", ["watch", "portt 443", "cause refused", ":443", "dst 10.0.0.1 state established", "dport = x"]
)
def test_in_a_snapshot_ss_s_words_stay(line: str) -> None:
    with pytest.raises(SstraceError) as ours:
        read("--snapshot", *line.split())
    with pytest.raises(SstraceError) as theirs:
        resolve(parse(["ss", *line.split()], release=RELEASE), SmallWorld())  # type: ignore[arg-type]
    assert str(ours.value) == str(theirs.value)
    assert "sstrace" not in str(ours.value)
    assert read("--snapshot", "dport", "=", "99999").selection.filter is not None
    with pytest.raises(UsageError, match="wrong state name: CLOSE_WAIT"):
        read("--snapshot", "state", "CLOSE_WAIT")
