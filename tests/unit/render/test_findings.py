"""The findings as text."""

from sstrace.render.doctor import Finding, lines

FOUND = [
    Finding("kernel", "ok", "Linux"),
    Finding(
        "socket tables",
        "less",
        "tcp udp unix through sock_diag; not dccp raw sctp",
        "load the modules that are missing",
    ),
]


def test_a_line_a_finding() -> None:
    assert lines(FOUND, "Good.") == [
        "ok    kernel         Linux",
        "less  socket tables  tcp udp unix through sock_diag; not dccp raw sctp",
        "                     -> load the modules that are missing",
        "",
        "Good.",
    ]


def test_a_narrow_terminal_goes_on_below() -> None:
    assert lines(FOUND, "Good.", 54) == [
        "ok    kernel         Linux",
        "less  socket tables  tcp udp unix through sock_diag;",
        "                     not dccp raw sctp",
        "                     -> load the modules that are",
        "                        missing",
        "",
        "Good.",
    ]
    text = lines(FOUND, "Good.", 10)
    assert "".join("".join(text).split()) == "".join("".join(lines(FOUND, "Good.")).split()), "nothing is left out"
