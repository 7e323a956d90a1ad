"""Filter expressions: words and grammar.

Enters: the operands of a command line (latin-1 text), the bytes of a -F file, a ``model.Names`` for what must be
looked up. Leaves: the selection with its filter, and with its families narrowed as operands ask.

The language is ss's, with its ways: words are cut at blanks, ``\\`` takes the next character literally; ``and`` and
``or`` bind alike, from left to right; an operand means what the last keyword says, and is read (``operands``) as soon
as it is met.

sstrace adds tests of its own: see ``words``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, NoReturn

import msgspec

from sstrace.dialect import Dialect
from sstrace.errors import SstraceError, UsageError
from sstrace.model import Names
from sstrace.query.expression import Autobound, Chain, Compare, Expr, Host, Match, Not
from sstrace.query.operands import Operands, Scope
from sstrace.query.words import WORDS, Word, either, test_of

__all__ = ["EXAMPLES", "OPERATORS", "gathered", "parse_filter"]

_AND: Final = frozenset(("&", "&&", "and"))
_OR: Final = frozenset(("|", "||", "or"))
_NOT: Final = frozenset(("!", "not"))
OPERATORS: Final = {
    ">=": ">=",
    "ge": ">=",
    "geq": ">=",
    "<=": "<=",
    "le": "<=",
    "leq": "<=",
    "!=": "!=",
    "ne": "!=",
    "neq": "!=",
    "=": "=",
    "==": "=",
    "eq": "=",
    ">": ">",
    "gt": ">",
    "<": "<",
    "lt": "<",
}
_KEYWORDS: Final = frozenset(("dst", "src", "dport", "sport", "dev", "fwmark", "cgroup", "autobound"))
_COMPARED: Final[Mapping[str, Sequence[str]]] = {
    "src": ("=",),
    "dst": ("=",),
    "dev": ("=", "!="),
    "fwmark": ("=", "!="),
    "cgroup": ("=", "!="),
}
"""By which operators, where not by all."""
EXAMPLES: Final = {
    "src": "src 10.0.0.1",
    "dst": "dst 10.0.0.1:443",
    "sport": "sport = :443",
    "dport": "dport = :443",
    "dev": "dev eth0",
    "fwmark": "fwmark = 7",
    "cgroup": "cgroup /user.slice",
    **{word.name: word.example for word in WORDS.values()},
}
"""Of each test that compares, one that can be typed."""

# Parentheses and negations inside one another. ss stops at 10,000; nobody writes hundreds, and each is a call inside a
# call when rows are matched, of which Python allows 1,000.
_DEEPEST: Final = 200

_LONGEST_LINE: Final = 1022
"""Of a -F file, its newline counted: ss reads lines into 1,024 bytes and takes a full buffer for a line too long."""


class _Token(msgspec.Struct):
    kind: str
    """A keyword, an operator, ``and or ! ( )``, ``operand``, or ``end``."""
    value: "tuple[Host, ...] | Expr | int | str | None" = None


def parse_filter(
    operands: Sequence[str],
    file: bytes | None,
    names: Names,
    scope: Scope,
    release: Dialect,
    *,
    rpc: bool = False,
    words: Mapping[str, Word] | None = None,
    stray: Callable[[str, Sequence[str]], UsageError] | None = None,
) -> Expr | None:
    """Parse a filter; None when there is none. ``scope`` is changed as operands fix families.

    ``file`` is the content of -F, whose lines follow the operands. ``rpc``: services may be named as rpcbind does (-r).
    ``words``: sstrace's own that are known. Raises UsageError for mistakes of syntax, LookupFailed for names that do
    not exist, with ss's sentences; with ``stray``, which makes the one about a word that begins no test, of that and of
    what follows it, with sstrace's own, which also refuse ports that cannot be.
    """
    values = Operands(names, scope, release, rpc=rpc, ours=stray is not None)
    parser = _Parser(_words(operands, file), values, names, words or {}, stray=stray)
    try:
        return parser.parse()
    except SstraceError as error:
        error.strange = parser.strange
        raise


def gathered(operands: list[str], takes: dict[str, int]) -> list[str]:
    """Put state words, wherever they stand between the tests of a filter, in front of it. ``takes``: how many words
    follow each. They are always joined by "and", which may be written. Raises UsageError where they are not. A test
    that is written without blanks (``port=443``) gets them, and so do parentheses around one.
    """
    cut = [word for operand in operands for word in ([operand] if "\\" in operand else _cut(operand))]
    words: list[str] = []
    for typed in cut:
        word = typed
        while not _wants_operand(words) and word[:1] in ("(", "!") and word[1:] and word[1:2] != "=":
            words.append(word[0])
            word = word[1:]
        closed, open_ = 0, words.count("(") - words.count(")")
        while closed < open_ and word[1:] and word[-1] == ")" and word.count(")") > word.count("("):
            word = word[:-1]
            closed += 1
        words += [word] if _wants_operand(words) else _apart(word, takes)
        words += ")" * closed
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word not in takes or _wants_operand(rest):
            rest.append(word)
            at += 1
            continue
        after = at + 1 + takes[word]
        following = "".join(words[after : after + 1])
        if {*rest[-1:], following} & (_OR | _NOT) or rest.count("(") > rest.count(")"):
            raise UsageError(f'sstrace: "{word}" is always joined by "and": "or", "not" and parentheses are for tests')
        front += words[at:after]
        if rest and rest[-1] in _AND:
            rest.pop()
        elif not rest and following in _AND:
            after += 1
        at = after
    return front + (rest if front or words != cut else operands)


def _apart(word: str, takes: dict[str, int]) -> list[str]:
    """A test, or a word about states, that was written in one piece: its words."""
    at = next((at for at, char in enumerate(word) if char in "=!<>"), 0)
    name, signs = word[:at], 2 if word[at : at + 2] in OPERATORS else 1
    operator, value = word[at : at + signs], word[at + signs :]
    if not at or not value or operator not in OPERATORS:
        return [word]
    if takes.get(name) and operator == "=":
        return [name, value]
    return [name, operator, value] if name in EXAMPLES else [word]


def _wants_operand(words: list[str]) -> bool:
    """Whether the next word is what a test compares with."""
    if not words:
        return False
    last = words[-1]
    return last in OPERATORS or (last in EXAMPLES and not _wants_operand(words[:-1]))


def _words(operands: Sequence[str], file: bytes | None) -> Iterator[str]:
    for operand in operands:
        yield from _cut(operand)
    if not file:
        return
    lines = [line + b"\n" for line in file.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    for line in lines:
        # As fgets hands it out: what does not fit is the next line. As C reads it: up to a NUL.
        for at in range(0, len(line), _LONGEST_LINE + 1):
            text = line[at : at + _LONGEST_LINE + 1].partition(b"\0")[0]
            if not text:
                raise UsageError("Invalid line")
            if len(text) > _LONGEST_LINE:
                raise UsageError("Too long line in filter")
            # "0" besides "#": a slip in ss's source that became its behaviour.
            if text[:1] not in (b"#", b"0"):
                yield from _cut(text.removesuffix(b"\n").decode("latin-1"))


def _cut(text: str) -> Iterator[str]:
    """Cut at blanks and tabs; a backslash takes the next character as it is. A lone backslash is an empty word."""
    if "\\" not in text:
        for part in text.split(" "):
            for word in part.split("\t") if "\t" in part else (part,):
                if word:
                    yield word
        return
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        taken = []
        while at < len(text) and text[at] not in " \t":
            if text[at] == "\\":
                at += 1
            taken.append(text[at : at + 1])
            at += 1
        yield "".join(taken)


class _Parser:
    """The grammar. Keeps its own stack, so that no nesting of a user reaches Python's."""

    def __init__(
        self,
        words: Iterator[str],
        operands: "Operands",
        names: Names,
        own: Mapping[str, Word],
        *,
        stray: Callable[[str, Sequence[str]], UsageError] | None,
    ) -> None:
        self._words = words
        self._operands = operands
        self._names = names
        self._own = own
        self._stray = stray
        self.strange: tuple[str, Sequence[str]] | None = None
        """See SstraceError."""
        self._kind = ""
        """The last keyword: what an operand means."""
        self._word = ""
        """The last word of all."""

    def parse(self) -> Expr | None:
        """List := test | list ``and`` test | list ``or`` test | list test;  test := ``(`` list ``)`` | ``!`` test |
        …
        """
        outer: list[_Level] = []
        level = _Level()
        token = self._next()
        if token.kind == "end":
            return None
        expecting = True
        while True:
            kind = token.kind
            if kind == "!":
                if not expecting:
                    level.operator = "and"
                    expecting = True
                level.negations += 1
                if level.negations + len(outer) > _DEEPEST:
                    _exhausted()
            elif kind == "(":
                if not expecting:
                    level.operator = "and"
                    expecting = True
                outer.append(level)
                level = _Level()
                if len(outer) > _DEEPEST:
                    _exhausted()
            elif kind in _KEYWORDS or kind in self._own:
                if not expecting:
                    level.operator = "and"
                level.add(self._test(kind))
                expecting = False
            elif expecting:
                self._wrong("the filter is not complete" if kind == "end" else f'"{self._word}" stands before a test')
            elif kind in ("and", "or"):
                level.operator = kind
                expecting = True
            elif kind == ")" and outer:
                inner = level.expression()
                level = outer.pop()
                level.add(inner)
            elif kind == "end" and not outer:
                return level.expression()
            else:
                self._wrong('a "(" is not closed' if kind == "end" else f'"{self._word}" stands behind a whole test')
            token = self._next()

    def _test(self, kind: str) -> Expr:
        if kind == "autobound":
            return Autobound()
        token = self._next(operand=True)
        operator = "="
        if token.kind in (">=", "<=", "!=", "=", ">", "<"):
            operator = token.kind
            allowed = self._own[kind].operators if kind in self._own else _COMPARED.get(kind)
            if allowed is not None and operator not in allowed:
                self._wrong(f"{kind} cannot be compared by {operator}: write {EXAMPLES[kind]}")
            token = self._next(operand=True)
        if token.kind != "operand":
            self._wrong(f"{kind} needs something to compare with: {EXAMPLES[kind]}")
        value = token.value
        own = self._own.get(kind)
        if isinstance(value, tuple):
            if own is not None:
                return either(operator, _of_end(operator, value, local=True), _of_end(operator, value, local=False))
            return _of_end(operator, value, local=kind in ("src", "sport"))
        if own is not None:
            assert isinstance(value, int | str)
            return test_of(own, operator, value)
        # dev, fwmark, cgroup: the operand is the test.
        assert value is not None
        assert not isinstance(value, int | str)
        return Not(value) if operator == "!=" else value

    def _wrong(self, sentence: str) -> NoReturn:
        if self._stray is not None or self._kind in self._own:
            raise UsageError(f"sstrace: {sentence}")
        _bellow()

    def _next(self, *, operand: bool = False) -> _Token:
        """Read a token; ``operand``: one may stand here, so none of sstrace's words is a keyword."""
        word = next(self._words, None)
        if word is None:
            return _Token("end")
        self._word = word
        if word in _NOT:
            return _Token("!")
        if word in _AND:
            return _Token("and")
        if word in _OR:
            return _Token("or")
        if word in ("(", ")"):
            return _Token(word)
        if word in _KEYWORDS or (word in self._own and not operand):
            self._kind = word
            return _Token(word)
        operator = OPERATORS.get(word)
        if operator is not None:
            return _Token(operator)
        if not operand:
            if self._stray is not None:
                raise self._stray(word, list(self._words))
            self.strange = self.strange or (word, list(self._words))
        own = self._own.get(self._kind)
        if own is not None and own.read is not None:
            return _Token("operand", own.read(word, self._names))
        return _Token("operand", self._operands.read(own.ends[0] if own is not None and own.ends else self._kind, word))


class _Level(msgspec.Struct):
    """What stands between two parentheses while it is read."""

    first: Expr | None = None
    rest: list[tuple[Literal["and", "or"], Expr]] = msgspec.field(default_factory=list)
    operator: str = "and"
    negations: int = 0

    def add(self, test: Expr) -> None:
        while self.negations:
            test = Not(test)
            self.negations -= 1
        if self.first is None:
            self.first = test
        else:
            self.rest.append(("or" if self.operator == "or" else "and", test))

    def expression(self) -> Expr:
        assert self.first is not None
        return Chain(self.first, tuple(self.rest)) if self.rest else self.first


def _of_end(operator: str, hosts: tuple[Host, ...], *, local: bool) -> Expr:
    if operator in ("=", "!="):
        match = Match(local, hosts)
        return Not(match) if operator == "!=" else match
    compare = Compare(local, operator in (">=", "<"), hosts[0].port)
    return Not(compare) if operator in (">", "<") else compare


def _bellow(what: str = "syntax error") -> NoReturn:
    raise UsageError(f'ss: bison bellows (while parsing filter): "{what}!" Sorry.', usage=True)


def _exhausted() -> NoReturn:
    # What ss says at its own, deeper limit.
    _bellow("memory exhausted")
