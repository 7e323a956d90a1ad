"""The filter language: words, grammar, operands, and what is told of mistakes."""

import pytest
from smallworld import SmallWorld

from sstrace.dialect import dialect
from sstrace.errors import LookupFailed, UsageError
from sstrace.model import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_UNSPEC, AF_VSOCK, AF_XDP, Table
from sstrace.query.expression import Amount, Autobound, Cgroup, Chain, Compare, Device, Expr, Host, Mark, Match, Not
from sstrace.query.filter import parse_filter
from sstrace.query.operands import Scope
from sstrace.query.words import WORDS

OLD, NEW = dialect((6, 1)), dialect((7, 1))
TCP, UDP = 1 << Table.TCP, 1 << Table.UDP
S = 10**9


def parsed(
    *operands: str,
    tables: int = TCP | UDP,
    preferred: int = AF_UNSPEC,
    file: bytes | None = None,
    held: bool = False,
    rpc: bool = False,
    new: bool = False,
) -> Expr | None:
    scope = Scope(tables, 0b111, preferred)
    return parse_filter(
        operands, file, SmallWorld(), scope, NEW if new else OLD, rpc=rpc, words=WORDS if held else None
    )


def src(**fields: object) -> Match:
    return Match(True, (Host(**fields),))  # type: ignore[arg-type]


P5, P6, P7 = (src(port=port) for port in (5, 6, 7))


# ---------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    "operands",
    [
        ("sport", "=", "5"),
        ("sport = 5",),
        ("sport", "5"),
        ("  sport\t5 ", "", " "),
        ("sport \\5",),
        ("\\sport", "5"),
        ("sp\\ort 5",),
        ("sport", "5\\"),
    ],
)
def test_words_are_cut_at_blanks_and_backslashes_vanish(operands: tuple[str, ...]) -> None:
    assert parsed(*operands) == P5


@pytest.mark.parametrize("operands", [(), ("",), (" \t", "")])
def test_no_words_are_no_filter(operands: tuple[str, ...]) -> None:
    assert parsed(*operands) is None


def test_files_follow_the_operands() -> None:
    assert parsed("sport 5", "or", file=b"# no\n0 no\nsport 6\n\nand\nsport 7") == Chain(P5, (("or", P6), ("and", P7)))
    assert parsed(file=b"") is None
    assert parsed(file=b"\n \n#") is None


@pytest.mark.parametrize("line", [b"#" * 1022, b"#" * 1021 + b"\n", b"#" * 3 + b"\0" + b"x" * 1018 + b"\n"])
def test_lines_that_just_fit(line: bytes) -> None:
    assert parsed(file=line) is None


def test_what_does_not_fit_is_the_next_line() -> None:
    """Behind a NUL, where fgets has filled its 1,023 bytes and strlen saw few of them."""
    assert parsed(file=b"###\0" + b"x" * 1019 + b"sport 5\n") == P5
    with pytest.raises(UsageError, match="Invalid line"):
        parsed(file=b"###\0" + b"x" * 1019 + b"\0sport 5\n")


@pytest.mark.parametrize("line", [b"#" * 1023, b"#" * 1022 + b"\n", b"###\0" + b"x" * 4000 + b"\n"])
def test_lines_that_do_not_fit(line: bytes) -> None:
    with pytest.raises(UsageError, match="Too long line in filter"):
        parsed(file=line)


def test_a_line_that_starts_with_nul() -> None:
    with pytest.raises(UsageError, match="Invalid line"):
        parsed(file=b"\0sport 5\n")


# -------------------------------------------------------------------------------------------------------------- grammar


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("sport 5 or sport 6 and sport 7", Chain(P5, (("or", P6), ("and", P7)))),
        ("sport 5 | sport 6 & sport 7", Chain(P5, (("or", P6), ("and", P7)))),
        ("sport 5 || sport 6 && sport 7", Chain(P5, (("or", P6), ("and", P7)))),
        ("sport 5 sport 6", Chain(P5, (("and", P6),))),
        ("sport 5 or ( sport 6 sport 7 )", Chain(P5, (("or", Chain(P6, (("and", P7),))),))),
        ("( ( sport 5 ) )", P5),
        ("! sport 5 sport 6", Chain(Not(P5), (("and", P6),))),
        ("not ( sport 5 or sport 6 )", Not(Chain(P5, (("or", P6),)))),
        ("! ! sport 5", Not(Not(P5))),
        ("sport 5 ! sport 6", Chain(P5, (("and", Not(P6)),))),
        ("sport 5 or ! ( ! sport 6 )", Chain(P5, (("or", Not(Not(P6))),))),
        ("( sport 5 ) ( sport 6 )", Chain(P5, (("and", P6),))),
        ("autobound or sport 5", Chain(Autobound(), (("or", P5),))),
        ("sport 5 or autobound sport 6", Chain(P5, (("or", Autobound()), ("and", P6)))),
    ],
)
def test_tests_join_from_left_to_right(text: str, tree: Expr) -> None:
    assert parsed(text) == tree


@pytest.mark.parametrize(
    ("operator", "tree"),
    [
        ("=", P5),
        ("==", P5),
        ("eq", P5),
        ("!=", Not(P5)),
        ("ne", Not(P5)),
        ("neq", Not(P5)),
        (">=", Compare(True, True, 5)),
        ("ge", Compare(True, True, 5)),
        ("geq", Compare(True, True, 5)),
        ("<=", Compare(True, False, 5)),
        ("le", Compare(True, False, 5)),
        ("leq", Compare(True, False, 5)),
        (">", Not(Compare(True, False, 5))),
        ("gt", Not(Compare(True, False, 5))),
        ("<", Not(Compare(True, True, 5))),
        ("lt", Not(Compare(True, True, 5))),
    ],
)
def test_operators_of_ports(operator: str, tree: Expr) -> None:
    assert parsed("sport", operator, "5") == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("dport >= :ssh", Compare(False, True, 22)),
        ("dev lo", Device(1, "lo")),
        ("dev = eth0", Device(7, "eth0")),
        ("dev != lo", Not(Device(1, "lo"))),
        ("dev 5", Device(5)),
        ("dev 0x10", Device(16)),
        ("dev if77", Device(77)),
        ("dev if77x", Device(77)),
        ("dev 0", Device(0)),
        ("fwmark 5", Mark(5, 0xFFFFFFFF)),
        ("fwmark != 0x10/0xff", Not(Mark(16, 255))),
        ("fwmark 7x", Mark(7, 0xFFFFFFFF)),
        ("fwmark -1/-2", Mark(0xFFFFFFFF, 0xFFFFFFFE)),
        ("fwmark 5/3x", Mark(5, 3)),
        ("cgroup /known", Cgroup(4711)),
        ("cgroup != /known", Not(Cgroup(4711))),
    ],
)
def test_other_tests(text: str, tree: Expr) -> None:
    assert parsed(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        *(
            "sport",
            "sport =",
            "sport = =",
            "sport and",
            "sport 5 6",
            "sport 5 and",
            "and sport 5",
            "or",
            "!",
            "! !",
            "(",
        ),
        *(
            ")",
            "( )",
            "( sport 5",
            "sport 5 )",
            "( ( sport 5 )",
            "src != 10.0.0.1",
            "src > 10.0.0.1",
            "dst >= 10.0.0.1",
        ),
        *(
            "dev > lo",
            "dev lo lo",
            "fwmark >= 1",
            "cgroup > /known",
            "10.0.0.1",
            "autobound 5",
            "sport 5 or or sport 6",
        ),
        *("sport 5 ( )", "dev = = lo", "=", "sport 5 =", "! and", "( or )"),
    ],
)
def test_syntax_errors(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert str(caught.value) == 'ss: bison bellows (while parsing filter): "syntax error!" Sorry.'
    assert caught.value.usage


def test_the_earlier_of_two_mistakes_is_told() -> None:
    with pytest.raises(LookupFailed):
        parsed("src nowhere and )")
    with pytest.raises(UsageError):
        parsed(") src nowhere")
    with pytest.raises(LookupFailed):
        parsed("src 10.0.0.1 nowhere")


def test_nesting_ends_somewhere() -> None:
    assert parsed(*["("] * 200, "sport 5", *[")"] * 200) == P5
    for deep in (["("] * 5000, ["!"] * 5000, ["(", "!"] * 5000):
        with pytest.raises(UsageError, match="memory exhausted"):
            parsed(*deep, "sport 5")


def test_length_does_not_end() -> None:
    tree = parsed(file=b"sport 5 or\n" * 20000 + b"sport 6")
    assert isinstance(tree, Chain)
    assert len(tree.rest) == 20000


# ----------------------------------------------------------------------------------------------------------------- held


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("held >= 5m", Amount("held", True, 300 * S)),
        ("held > 5m", Not(Amount("held", False, 300 * S))),
        ("held < 1.5s", Not(Amount("held", True, 15 * S // 10))),
        ("held <= 2h", Amount("held", False, 7200 * S)),
        ("held 5s", Chain(Amount("held", True, 5 * S), (("and", Amount("held", False, 6 * S - 1)),))),
        ("held = 20ms", Chain(Amount("held", True, S // 50), (("and", Amount("held", False, S // 50 + 10**6 - 1)),))),
        ("held != 5", Not(Chain(Amount("held", True, 5 * S), (("and", Amount("held", False, 6 * S - 1)),)))),
        ("sport 5 held ge 1", Chain(P5, (("and", Amount("held", True, S)),))),
        ("( held gt 1 or sport 5 )", Chain(Not(Amount("held", False, S)), (("or", P5),))),
    ],
)
def test_held(text: str, tree: Expr) -> None:
    assert parsed(text, held=True) == tree
    assert parsed(*text.split(), held=True) == tree


def test_held_changes_nothing_that_ss_accepts() -> None:
    for held in (False, True):
        with pytest.raises(LookupFailed, match='rather than "held"'):
            parsed("src held", held=held)
        with pytest.raises(LookupFailed, match='"held" does not look like a port'):
            parsed("sport = held", held=held)
        assert parsed("src unix:held", held=held) == parsed("src = unix:held", held=held)
    with pytest.raises(LookupFailed, match="inet prefix"):
        parsed("held > 5m")
    with pytest.raises(UsageError, match="is not a time"):
        parsed("held > soon", held=True)
    for text, said in (("netns a and state b", '"state" stands before'), ("netns a b", '"b" stands behind')):
        with pytest.raises(UsageError, match=said):
            parsed(text, held=True)


# ------------------------------------------------------------------------------------------------------- inet operands


@pytest.mark.parametrize(
    ("operand", "host"),
    [
        ("10.1.2.3", {"family": AF_INET, "address": b"\n\1\2\3", "bits": 32}),
        ("10.1.2.3:22", {"family": AF_INET, "address": b"\n\1\2\3", "bits": 32, "port": 22}),
        ("10.1.2.3:", {"family": AF_INET, "address": b"\n\1\2\3", "bits": 32}),
        ("10.1.2.3:*", {"family": AF_INET, "address": b"\n\1\2\3", "bits": 32}),
        ("10.1.2.3:ssh", {"family": AF_INET, "address": b"\n\1\2\3", "bits": 32, "port": 22}),
        ("127.1", {"family": AF_INET, "address": b"\x7f\1\0\0", "bits": 32}),
        ("127/8", {"family": AF_INET, "address": b"\x7f\0\0\0", "bits": 8}),
        ("0x7f.010.1", {"family": AF_INET, "address": b"\x7f\x08\1\0", "bits": 32}),
        ("10.0.0.0/8:22", {"family": AF_INET, "address": b"\n\0\0\0", "bits": 8, "port": 22}),
        ("10.0.0.0/255.128.0.0", {"family": AF_INET, "address": b"\n\0\0\0", "bits": 9}),
        ("10.0.0.0/any", {"family": AF_INET, "address": b"\n\0\0\0", "bits": 0}),
        ("10.0.0.0/0", {"family": AF_INET, "address": b"\n\0\0\0", "bits": 0}),
        ("[10.0.0.1]:5", {"family": AF_INET, "address": b"\n\0\0\1", "bits": 32, "port": 5}),
        ("[::1]", {"family": AF_INET6, "address": b"\0" * 15 + b"\1", "bits": 128}),
        ("[::1]:5", {"family": AF_INET6, "address": b"\0" * 15 + b"\1", "bits": 128, "port": 5}),
        ("[::1]5", {"family": AF_INET6, "address": b"\0" * 15 + b"\1", "bits": 128, "port": 5}),
        ("[fe80::/10]:5", {"family": AF_INET6, "address": b"\xfe\x80" + b"\0" * 14, "bits": 10, "port": 5}),
        ("fe80::/10", {"family": AF_INET6, "address": b"\xfe\x80" + b"\0" * 14, "bits": 10}),
        ("*", {}),
        ("*:5", {"port": 5}),
        ("*5", {"port": 5}),
        (":5", {"port": 5}),
        (":-1", {"port": -1}),
        ("any", {}),
        ("all:5", {"port": 5}),
        ("default", {}),
        ("inet:any", {"family": AF_INET}),
        ("inet6:default", {"family": AF_INET6, "address": bytes(16)}),
        ("inet:10.0.0.1", {"family": AF_INET, "address": b"\n\0\0\1", "bits": 32}),
        ("inet6:fd00::1/64", {"family": AF_INET6, "address": b"\xfd" + bytes(14) + b"\1", "bits": 64}),
        ("six", {"family": AF_INET6, "address": b"\xfd" + bytes(14) + b"\6", "bits": 128}),
    ],
)
def test_hosts(operand: str, host: dict[str, object]) -> None:
    assert parsed("src", operand) == src(**host)
    assert parsed("dst", operand) == Match(False, (Host(**host),))  # type: ignore[arg-type]


def test_a_name_may_have_several_addresses() -> None:
    tree = parsed("src multi:7")
    assert isinstance(tree, Match)
    assert [(host.family, host.bits, host.port) for host in tree.hosts] == [(2, 32, 7), (2, 32, 7), (10, 128, 7)]
    only_six = parsed("src inet6:multi")
    assert isinstance(only_six, Match)
    assert [host.family for host in only_six.hosts] == [AF_INET6]


@pytest.mark.parametrize(
    "operand",
    [
        "nowhere",
        "1.2.3.4.5",
        "256",
        "1.2.3.4/33",
        "1.2.3.4/-1",
        "1.2.3.4/",
        "1.2.3.4/255.0.255.0",
        "any/8",
        "[::g]",
        "[::1/129]",
        "inet6:10.0.0.1",
        "inet:[::1]",
        "a:b:c:5",
    ],
)
def test_no_hosts(operand: str) -> None:
    with pytest.raises(
        LookupFailed, match=r'Error: an inet prefix is expected rather than ".*"\.\nCannot parse dst/src address.'
    ):
        parsed("src", operand)


@pytest.mark.parametrize("operand", ["::1", "10.0.0.1:x", "[::1]x", "[::1]/64", ":99999999999", ":0x", ":08", ":é"])
def test_no_ports(operand: str) -> None:
    with pytest.raises(LookupFailed, match=r"Error: .*\nCannot parse dst/src address\."):
        parsed("src", operand)


def test_an_open_bracket() -> None:
    with pytest.raises(LookupFailed) as caught:
        parsed("src [::1")
    assert str(caught.value) == "Cannot parse dst/src address."


@pytest.mark.parametrize(
    ("operand", "port"),
    [
        ("22", 22),
        (":22", 22),
        ("ssh", 22),
        (":ssh", 22),
        ("inet:22", 22),
        ("inet6::22", 22),
        ("*", -1),
        (":*", -1),
        ("0x16", 22),
    ],
)
def test_ports(operand: str, port: int) -> None:
    assert parsed("sport", operand) == src(port=port)


def test_services_depend_on_the_tables() -> None:
    assert parsed("sport split", tables=TCP) == src(port=1)
    assert parsed("sport split", tables=UDP) == src(port=2)
    assert parsed("sport domain") == src(port=53)
    # Both tables: tcp's answer overwrites udp's, and where tcp has none, the last line read does.
    assert parsed("sport split") == src(port=1)
    assert parsed("sport syslog") == src(port=49151)
    with pytest.raises(LookupFailed, match=r'Error: "ssh" does not look like a port\.'):
        parsed("sport ssh", tables=1 << Table.MPTCP)


def test_rpc_services_are_known_when_resolving() -> None:
    assert parsed("sport rpc.mountd", rpc=True) == src(port=20048)
    for tables, rpc in ((TCP, False), (UDP, True)):
        with pytest.raises(LookupFailed):
            parsed("sport rpc.mountd", tables=tables, rpc=rpc)


def test_ports_grew_in_6_6() -> None:
    assert parsed("sport 4026531840", new=True) == src(port=4026531840)
    with pytest.raises(LookupFailed):
        parsed("sport 4026531840")


# ------------------------------------------------------------------------------------------------------ other families


@pytest.mark.parametrize(
    ("operand", "host"),
    [
        ("unix:/run/*", {"family": AF_UNIX, "bits": 48, "glob": "/run/*"}),
        ("unix:", {"family": AF_UNIX, "glob": ""}),
        ("link:ip", {"family": AF_PACKET, "address": b"\0\x08\0\0", "bits": 32}),
        ("link:IPv4:eth0", {"family": AF_PACKET, "address": b"\0\x08\0\0", "bits": 32, "port": 7}),
        ("link:0x88cc:*", {"family": AF_PACKET, "address": b"\xcc\x88\0\0", "bits": 32}),
        ("link:*:5", {"family": AF_PACKET, "port": 5}),
        ("link:", {"family": AF_PACKET}),
        ("netlink:genl:kernel", {"family": AF_NETLINK, "address": b"\x10\0\0\0", "bits": 32, "port": 0}),
        ("netlink:4:-7", {"family": AF_NETLINK, "address": b"\4\0\0\0", "bits": 32, "port": -7}),
        ("vsock:2:1024", {"family": AF_VSOCK, "address": b"\2\0\0\0", "port": 1024}),
        ("vsock:*", {"family": AF_VSOCK, "address": b"\xff\xff\xff\xff"}),
        ("vsock:4294967295:4294967295", {"family": AF_VSOCK, "address": b"\xff\xff\xff\xff", "port": -1}),
    ],
)
def test_hosts_of_other_families(operand: str, host: dict[str, object]) -> None:
    assert parsed("src", operand) == src(**host)


@pytest.mark.parametrize(
    ("release", "ports"),
    [
        ((6, 1), {0: 0, 1024: 1024, 1 << 31: -(1 << 31), 0xFFFFFFFF: -1}),
        ((6, 15), {0: -(1 << 32), 1024: 1024 - (1 << 32), 1 << 31: -(1 << 31), 0xFFFFFFFF: -1}),
        ((7, 3), {0: 0, 1024: 1024, 1 << 31: 1 << 31, 0xFFFFFFFF: 0xFFFFFFFF}),
    ],
)
def test_vsock_ports_of_three_ages(release: tuple[int, int], ports: dict[int, int]) -> None:
    for number, port in ports.items():
        found = parse_filter(
            [f"src vsock:*:{number}"], None, SmallWorld(), Scope(TCP, 0b111, AF_UNSPEC), dialect(release)
        )
        assert found == src(family=AF_VSOCK, address=b"\xff\xff\xff\xff", port=port)


@pytest.mark.parametrize(
    "operand",
    [
        "link:nope",
        "link:0x10000",
        "link:ip:nope",
        "netlink:nope",
        "netlink:256",
        "netlink:0:x",
        "vsock:x",
        "vsock:1:x",
        "vsock:1:",
    ],
)
def test_no_hosts_of_other_families(operand: str) -> None:
    with pytest.raises(LookupFailed) as caught:
        parsed("src", operand)
    assert str(caught.value) == "Cannot parse dst/src address."


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("sport unix:x", {"family": AF_UNIX, "bits": 8, "glob": "x"}),
        ("sport link:eth0", {"family": AF_PACKET, "port": 7}),
        ("sport netlink:kernel", {"family": AF_NETLINK, "port": 0}),
        ("sport vsock:9", {"family": AF_VSOCK, "address": b"\xff\xff\xff\xff", "port": 9}),
    ],
)
def test_ports_of_other_families(text: str, host: dict[str, object]) -> None:
    assert parsed(text) == src(**host)


def test_a_family_sticks() -> None:
    scope = Scope(TCP, 0b11111111111, AF_UNSPEC)
    parse_filter(["sport", "5"], None, SmallWorld(), scope, OLD)
    assert (scope.families, scope.preferred) == (0b11111111111, AF_UNSPEC)
    parse_filter(["src", "inet6:[::1]", "or", "src", "[::2]"], None, SmallWorld(), scope, OLD)
    assert (scope.families, scope.preferred) == (1 << AF_INET6, AF_INET6)
    with pytest.raises(LookupFailed):
        parse_filter(["src", "10.0.0.1"], None, SmallWorld(), scope, OLD)
    parse_filter(["src", "inet:10.0.0.1"], None, SmallWorld(), scope, OLD)
    assert (scope.families, scope.preferred) == (1 << AF_INET, AF_INET)


def test_with_unix_preferred_every_bare_operand_is_a_glob() -> None:
    assert parsed("src 10.0.0.1", preferred=AF_UNIX) == src(family=AF_UNIX, bits=64, glob="10.0.0.1")


def test_families_without_names_ask_for_none() -> None:
    # Numbers go to the resolver all the same, which answers for IPv4; the small world has no numbers.
    for operand in ("localhost", "10.0.0.1"):
        with pytest.raises(LookupFailed):
            parsed("src", operand, preferred=AF_XDP)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dev nope", "Cannot parse device."),
        ("dev -1", "Cannot parse device."),
        ("dev 4294967296", "Cannot parse device."),
        ("fwmark x", "Cannot parse mark x."),
        ("fwmark 1/", "Cannot parse mark 1/."),
        ("fwmark 1x/2", "Cannot parse mark 1x/2."),
        ("cgroup /no", "Failed to get cgroup2 ID: No such file or directory\nCannot parse cgroup /no."),
        ("cgroup /zero", "Cannot parse cgroup /zero."),
    ],
)
def test_what_does_not_exist(text: str, sentence: str) -> None:
    with pytest.raises(LookupFailed) as caught:
        parsed(text)
    assert str(caught.value) == sentence
    assert caught.value.exit_code == 1
