"""Arguments → Command: ss's options with its own order of things, and sstrace's beside them.

Enters: argv as latin-1 text (one character a byte), the dialect, and an ``Effects`` for the few options that act on the
system where they stand. Leaves: a ``Command``, or an ``Early`` when nothing more is to be done, or an exception whose
text is what ss would write. Nothing is printed or opened here.

The life of a command line, as ss lives it: ``parse`` takes the options left to right, then the leading
``state``/``exclude`` words, then settles tables, families and states. ``resolve`` parses the filter: later, because
ss prints the summary of -s, scans processes and dumps -D before, and because names are looked up in the namespace
that -N entered.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from sstrace.dialect import NEWEST, Dialect, dialect, parse_version
from sstrace.errors import LookupFailed, SstraceError, UsageError
from sstrace.model import (
    AF_INET,
    AF_INET6,
    ALL_STATES,
    Names,
    Show,
    State,
    Table,
)
from sstrace.protocols import DIAG_PROTOCOL, RECORDED
from sstrace.query import own_options, states
from sstrace.query.catalog import FILTER, MODES, OWN, SS, STATES, Entry, refusal
from sstrace.query.command import Act, Command, Early, Mode, Own, Selection
from sstrace.query.followed import followed
from sstrace.query.getopt import BadOption, Option, getopt
from sstrace.query.masks import FAMILY_KEYS, FAMILY_WORDS, TABLE_KEYS, Masks

__all__ = ["Effects", "mode_of", "of_recordings", "parse", "resolve", "version_of"]


class Effects(Protocol):
    """What some options do to the system at their position in the command line."""

    def enter_netns(self, name: str) -> None:
        """-N: enter a network namespace; raises LookupFailed with ss's sentence."""
        ...

    def require_selinux(self) -> None:
        """-Z, -z: raises LookupFailed with ss's sentence where SELinux is off."""
        ...

    def open_filter(self, path: str) -> Callable[[], bytes]:
        """-F: open a file (first character ``-``: standard input), give what reads it; raises UsageError."""
        ...


# Options that only set a flag; they are the members of _Line.flags.
_FLAGS: Final = frozenset(
    ("n", "r", "o", "e", "m", "i", "p", "T", "b", "E", "s", "K", "H", "Q", "O", "tipcinfo", "tos", "cgroup")
) | {"inet-sockopt", "bpf-maps"}


def _is_ss(program: str) -> bool:
    # A link named ss to sstrace is a drop-in: no mode option needed, and messages begin as the user typed it.
    return program.rpartition("/")[2] == "ss"


def mode_of(argv: Sequence[str]) -> Mode:
    """Guess the mode before the options are parsed: what an early mistake should look like, and which dialect is asked.

    Only the spelling of messages hangs on it. Called as ``ss`` (a link), sstrace takes snapshots.
    """
    words = argv[1:]
    if "--snapshot" in words or (argv and _is_ss(argv[0])):
        return Mode.SNAPSHOT
    return next((MODES[word[2:].partition("=")[0]] for word in words if own_options.is_mode(word)), Mode.TRACE)


def version_of(argv: Sequence[str]) -> tuple[int, ...] | None:
    """Give what --ss-version says, before the options are parsed; None when it is not there or not readable."""
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == "--ss-version":
            if not equals:
                value = argv[index + 1] if index + 1 < len(argv) else ""
            try:
                return parse_version(value)
            except UsageError:
                return None
        if word == "--":
            break
    return None


class _Line:
    """One command line while its options are taken, left to right."""

    def __init__(self, name: str, release: Dialect, effects: Effects | None, *, snapshot: bool) -> None:
        self.name = name
        """The program's name in front of sentences."""
        self.release = release
        self.effects = effects
        self.snapshot = snapshot
        self.words: tuple[str, ...] = ()
        self.masks = Masks(release)
        self.own = own_options.Collector()
        self.flags: set[str] = set()
        self.process_contexts = 0
        self.socket_contexts = 0
        self.map_ids: list[int] = []
        self.netns: str | None = None
        self.asked = 0
        """Where tables are left out of ``masks``: they and those, a mask."""
        self.diag_file: str | None = None
        self.filter_file: Callable[[], bytes] | None = None

    def help(self, *, brief: bool) -> Early:
        """What is said of the options: ss's usage to who typed ss's command line."""
        from sstrace.query.usage import brief_text, help_text, ss_usage

        return Early(ss_usage(self.release) if self.snapshot else brief_text() if brief else help_text())

    def option(self, key: str, values: tuple[str, ...]) -> Early | None:
        """Act on one option; give an Early when it ends the program."""
        if key in TABLE_KEYS:
            self.masks.add_table(TABLE_KEYS[key])
        elif key in FAMILY_KEYS:
            self.masks.add_family(FAMILY_KEYS[key])
        elif key == "a":
            self.masks.chosen = states.all_states(self.release)
        elif key == "l":
            self.masks.chosen = states.LISTENING
        elif key == "B":
            self.masks.chosen = 1 << State.BOUND_INACTIVE
        elif key in _FLAGS:
            if key == "bpf-maps" and self.map_ids:
                raise LookupFailed(f"{self.name}: --bpf-maps and --bpf-map-id cannot be used together")
            self.flags.add(key)
        elif key == "f":
            if values[0] == "help":
                return self.help(brief=False)
            family = FAMILY_WORDS.get(values[0])
            if family is None:
                raise UsageError(f'{self.name}: "{values[0]}" is invalid family', usage=True)
            self.masks.add_family(family)
        elif key == "A":
            wrong = self.masks.query(values[0])
            if wrong is not None:
                raise UsageError(f'{self.name}: "{wrong}" is illegal socket table id', usage=True)
        elif key in ("h", "help"):
            return self.help(brief=key == "h")
        elif key == "--completions":
            return _completions(values[0])
        elif key in "Vv":
            if self.snapshot:
                return Early(f"ss utility, iproute2-{self.release.release}\n")
            from sstrace import __version__

            return Early(f"sstrace {__version__}, printing as iproute2-{self.release.release}\n")
        elif key == "D":
            self.diag_file = values[0]
        elif key == "F":
            if self.filter_file is not None:
                raise UsageError("More than one filter file")
            self.filter_file = self.effects.open_filter(values[0]) if self.effects is not None else bytes
        elif key == "N":
            if self.effects is not None:
                self.effects.enter_netns(values[0])
            self.netns = values[0]
        elif key in "Zz":
            if self.effects is not None:
                self.effects.require_selinux()
            self.process_contexts += 1
            self.socket_contexts += key == "z"
        elif key == "bpf-map-id":
            if "bpf-maps" in self.flags:
                raise LookupFailed(f"{self.name}: --bpf-maps and --bpf-map-id cannot be used together")
            number = values[0]
            if not (number.isascii() and number.isdecimal()) or int(number) >= 1 << 32:
                raise LookupFailed(f"{self.name}: invalid BPF map ID {number}")
            self.map_ids.append(int(number))
        else:
            self.own.add(key, values)
        return None


def parse(
    argv: Sequence[str],
    *,
    release: Dialect | None = None,
    effects: Effects | None = None,
    posix: bool = False,
) -> Command | Early:
    """Parse a command line; ``argv[0]`` is the program's name as typed.

    ``release`` is the ss to be identical to (default: what --ss-version says, else the newest known). Without
    ``effects``,
    -N, -Z, -z and -F are noted but do nothing. ``posix``: POSIXLY_CORRECT is set. Raises UsageError and LookupFailed
    with ss's sentences; with ``usage`` set, ss's usage text follows on standard error.
    """
    release = release or dialect(version_of(argv) or NEWEST)
    program = argv[0] if argv else "sstrace"
    snapshot = mode_of(argv) is Mode.SNAPSHOT
    name = "ss" if snapshot else "sstrace"

    line = _Line(name, release, effects, snapshot=snapshot)
    line.words = tuple(argv[1:])
    operands: list[str] = []
    try:
        known = _known(release)
        # ss's --events has no argument and is -E; elsewhere the long word is ours.
        theirs, ours = (
            (known, [one for one in OWN if one.name != "events"])
            if snapshot
            else ([one for one in known if one.name != "events"], OWN)
        )
        long = [entry.option for entry in (*theirs, *ours)]
        short = _short(known) if snapshot else _short((*known, *OWN))
        for letter, values in getopt(argv[1:], short, long, operands, posix=posix):
            key = _OWN_LETTERS.get(letter, letter)
            line.own.given(key, values)
            early = line.option(key, values)
            if early is not None:
                return early
    except BadOption as error:
        hint = "" if snapshot else _hint(error.word, long)
        raise UsageError(f"{program if _is_ss(program) else name}: {error}{hint}", usage=not hint) from None

    mode, act, own = line.own.finish(default=Mode.SNAPSHOT if _is_ss(program) else Mode.TRACE)
    if own.netns and ("E" in line.flags or (line.diag_file is not None and act is not Act.PAST)):
        what = "-E" if "E" in line.flags else "-D"
        raise UsageError(f"sstrace: {what} is of one network namespace: enter it with -N")
    if operands and own.engines and not own.sink and own.output is None:
        raise UsageError(
            "sstrace: --sink clickhouse keeps everything, so that whoever asks has whole tables: leave the filter "
            "away, and give it when you ask"
        )
    if operands and own.parquet is not None:
        raise UsageError("sstrace: --parquet writes recorded lines as they are: leave the filter away")
    masks = line.masks
    summary = "s" in line.flags
    if summary and masks.default and not operands:
        return _command(line, mode, act, own, listing=False)
    if operands and not snapshot:
        if operands == ["help"]:
            return line.help(brief=False)
        from sstrace.query.filter import gathered

        operands = gathered(operands, _STATE_WORDS if mode is Mode.TRACE else _ROW_WORDS)
    transitions = _Transitions()
    try:
        if _state_words(operands, transitions, line, trace=mode is Mode.TRACE) and act not in STATES.acts:
            raise refusal(STATES, STATES.name, act)
        if operands and act not in FILTER.acts:
            there = FILTER if act.does == "stats" else msgspec.structs.replace(FILTER, instead="")
            raise refusal(there, FILTER.name, act)
        transitions.ended |= own.life
        if "E" in line.flags and mode is Mode.TRACE:
            transitions.to_states &= 1 << State.CLOSE
        masks.settle(live=mode is not Mode.SNAPSHOT)
        if mode is not Mode.SNAPSHOT:
            line.asked = masks.tables
            masks.tables = followed(masks.tables, own)
        stop = _nothing(line)
    except SstraceError as error:
        if not summary:
            raise
        stop = Early("", f"{error}\n", error.exit_code)
    if stop is not None and not summary:
        return stop
    return _command(line, mode, act, own, operands=operands, stop=stop, transitions=transitions)


_OWN_LETTERS: Final = {letter: entry.option.key for entry in OWN for letter in entry.letters}


_ROW_WORDS: Final = {"state": 1, "exclude": 1, "excl": 1}
_STATE_WORDS: Final = {**_ROW_WORDS, "from": 1, "to": 1, "ended": 0}
"""Words about states, and how many words follow each; the last three are of events."""


def _hint(word: str, known: Sequence[Option]) -> str:
    from sstrace.query.nearest import nearest
    from sstrace.query.words import WORDS

    name = word.lstrip("-").partition("=")[0]
    if name in WORDS:
        return f": it is a word of the filter, written without dashes: {WORDS[name].example}"
    near = nearest(name, [option.name for option in known])
    return f"; did you mean --{near}?" if near is not None else ""


def of_recordings(command: Command, tables: int) -> Command:
    """Where no table is named, all that a recording holds is told: give the command with these ``tables``, a mask,
    selected.
    """
    selection = command.selection
    tables &= RECORDED
    if selection.asked or not tables:
        return command
    families = selection.families
    if not _BOTH & ~families:  # nobody has chosen one of IPv4 and IPv6
        outside = (table for table in Table if tables >> table & 1 and table not in DIAG_PROTOCOL)
        families |= sum({states.TABLE_FAMILIES[table] for table in outside})
    selection = msgspec.structs.replace(selection, tables=tables, families=families)
    show = msgspec.structs.replace(command.show, netid=not _one_bit(selection.tables))
    return msgspec.structs.replace(command, selection=selection, show=show)


_BOTH: Final = 1 << AF_INET | 1 << AF_INET6


def resolve(command: Command, names: Names) -> Command:
    """Parse the filter of a command: give it with ``selection.filter`` set, and families narrowed as operands ask.

    Reads the file of -F. Raises UsageError and LookupFailed with ss's sentences. With -D, ss does not look at the
    filter.
    """
    if (not command.operands and command.filter_file is None) or command.selection.diag_file is not None:
        return command
    from sstrace.query.asked import with_filter  # hardly any command line has one

    return with_filter(command, names)


def _known(release: Dialect) -> list[Entry]:
    return [entry for entry in SS if not entry.since or getattr(release, entry.since)]


def _short(entries: Sequence[Entry]) -> str:
    return "".join(f"{letter}{':' * bool(entry.argument)}" for entry in entries for letter in entry.letters)


def _completions(shell: str) -> Early:
    from sstrace.query.completions import SHELLS

    if shell not in SHELLS:
        raise UsageError(f"sstrace: --completions {shell}: one is {', '.join(SHELLS)}")
    return Early(SHELLS[shell]())


class _Transitions:
    """The masks of state words over transitions; see ``Selection``."""

    def __init__(self) -> None:
        self.touch = ALL_STATES
        self.avoid = 0
        self.from_states = ALL_STATES
        self.to_states = ALL_STATES
        self.ended = False


def _state_words(operands: list[str], found: _Transitions, line: _Line, *, trace: bool) -> bool:
    """Take the leading ``state X``, ``exclude X`` (and in a trace ``from X``, ``to X``, ``ended``) off the operands;
    tell whether there were any.
    """
    masks = line.masks
    if trace and masks.chosen == states.LISTENING:
        # -l in a trace: listeners come and go. CLOSE is in the mask for UDP's sake and would select every close.
        found.touch = 1 << State.LISTEN
    saw = saw_from = saw_to = False
    taken = 0
    while taken < len(operands):
        word = operands[taken]
        if trace and word == "ended":
            found.ended = True
            taken += 1
            continue
        if word not in ("state", "exclude", "excl") and not (trace and word in ("from", "to")):
            break
        if taken + 1 == len(operands):
            raise UsageError(
                'Command line is not complete. Try option "help"' if line.snapshot else f"sstrace: {word} which state?"
            )
        value = operands[taken + 1]
        mask = states.scan_state(value, line.release) if line.snapshot else states.read_states(value, line.release)
        if mask is None:
            raise UsageError(f"{line.name}: wrong state name: {value}")
        if word == "from":
            found.from_states = mask | (found.from_states if saw_from else 0)
            saw_from = True
        elif word == "to":
            found.to_states = mask | (found.to_states if saw_to else 0)
            saw_to = True
        elif word == "state":
            found.touch = mask | (found.touch if saw else 0)
            found.avoid &= ~mask
            masks.chosen = mask | (masks.chosen if saw else 0)
            saw = True
        else:
            found.avoid |= mask
            masks.chosen = (masks.chosen if saw else states.all_states(line.release)) & ~mask
            found.touch = found.touch & ~mask if saw else ALL_STATES & ~mask
            saw = True
        taken += 2
    del operands[:taken]
    return taken > 0


def _nothing(line: _Line) -> Early | None:
    masks = line.masks
    for mask, what in ((masks.tables, "socket tables"), (masks.families, "families"), (masks.states, "socket states")):
        if not mask:
            return Early("", f"{line.name}: no {what} to show with such filter.\n", 0)
    if line.diag_file is not None and not masks.tables >> Table.TCP & 1:
        return Early("", f"{line.name}: tcpdiag dump requested and no tcp in filter.\n", 0)
    return None


def _one_bit(mask: int) -> bool:
    return not mask & (mask - 1)


def _command(
    line: _Line,
    mode: Mode,
    act: Act,
    own: Own,
    *,
    listing: bool = True,
    operands: Sequence[str] = (),
    stop: Early | None = None,
    transitions: _Transitions | None = None,
) -> Command:
    flags = line.flags
    masks = line.masks
    chosen = transitions or _Transitions()
    selection = Selection(
        tables=masks.tables,
        asked=line.asked or masks.tables if masks.named else 0,
        families=masks.families,
        states=masks.states,
        preferred=masks.preferred,
        touch=chosen.touch,
        avoid=chosen.avoid,
        from_states=chosen.from_states,
        to_states=chosen.to_states,
        ended=chosen.ended,
        summary="s" in flags,
        listing=listing,
        diag_file=line.diag_file,
        events="E" in flags,
        kill="K" in flags,
        netns=line.netns,
        bpf_map_ids=tuple(line.map_ids),
    )
    # -Z -z and -z -Z show less than -z: ss counts both options and joins the counters with a bitwise "and".
    both = line.process_contexts & line.socket_contexts
    show = Show(
        version=line.release.version,
        header="H" not in flags,
        netid=not _one_bit(masks.tables),
        state=not _one_bit(masks.states),
        queues="Q" not in flags,
        oneline="O" in flags,
        numeric="n" in flags,
        resolve="r" in flags,
        timers=bool(flags & {"o", "e", "b"}),
        extended="e" in flags,
        memory="m" in flags,
        processes="p" in flags,
        threads="T" in flags,
        contexts=2 if both else 1 if line.process_contexts else 0,
        info="i" in flags,
        tipcinfo="tipcinfo" in flags,
        tos="tos" in flags,
        cgroup="cgroup" in flags,
        bpf="b" in flags,
        bpf_maps="bpf-maps" in flags or bool(line.map_ids),
        inet_sockopt="inet-sockopt" in flags,
    )
    return Command(
        mode=mode,
        act=act,
        selection=selection,
        show=show,
        own=own,
        dialect=line.release,
        operands=tuple(operands),
        words=line.words,
        filter_file=line.filter_file,
        stop=stop,
    )
