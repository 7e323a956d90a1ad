"""Completions as people have them: typed in real shells, which insert everything that they would offer."""

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import unmet

from sstrace.errors import UsageError
from sstrace.query import completions
from sstrace.query.catalog import Entry
from sstrace.query.command import Early
from sstrace.query.options import parse

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "packaging" / "completions"

FILES = ["a day.ndjson", "day.ndjson", "day-13:55.ndjson", "other.txt", "records/"]
PACKAGE = Path("/usr/share/bash-completion/bash_completion")


class Shell:
    """A shell at a pseudo-terminal, in a directory of FILES. Its ``sstrace`` writes its arguments into a file."""

    def __init__(self, directory: Path, words: Sequence[str], setup: str, everything: str) -> None:
        """``everything``: the key that inserts all completions."""
        self.directory = directory
        self._everything = everything
        self._asked = 0
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.chdir(directory / "files")
            path = f"{directory}/bin:{os.environ['PATH']}"
            env = {"PATH": path, "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": str(directory), "PS1": "> "}
            os.execvpe(words[0], [*words], env)
        self._pid = pid
        self._type(f"{setup}\n: > ../ready\n")
        self._until(directory / "ready")

    def _type(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._terminal, data) :]
            self._read()

    def _read(self) -> bytes:
        ready, _, _ = select.select([self._terminal], [], [], 0.01)
        return os.read(self._terminal, 1 << 16) if ready else b""

    def _until(self, file: Path) -> None:
        seen, end = b"", time.monotonic() + 60
        while not file.exists():
            seen += self._read()
            assert time.monotonic() < end, seen.decode(errors="replace")

    def ask(self, typed: str) -> list[str]:
        """What stands for the word that is being typed when everything that the shell offers has been inserted."""
        self._asked += 1
        done = self.directory / f"done-{self._asked}"
        self._type(f"sstrace {typed}{self._everything}\n: > {done}\n")
        self._until(done)
        found = (self.directory / "words").read_text().split("\0")[:-1]
        return found[len(typed.split(" ")) - 1 :] if typed else found

    def close(self) -> None:
        """End it."""
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


SSTRACE = "sstrace() { printf '%s\\0' \"$@\" > ../words; }"
SETUPS = {
    "bash": f"{SSTRACE}; bind '\"\\C-xa\": insert-completions'; . {SCRIPTS}/sstrace.bash",
    "bash with its package": f"{SSTRACE}; bind '\"\\C-xa\": insert-completions'; . {PACKAGE}; . {SCRIPTS}/sstrace.bash",
    "bash that breaks less": f"{SSTRACE}; bind '\"\\C-xa\": insert-completions'; . {SCRIPTS}/sstrace.bash; "
    "COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:]/}",
    "zsh": f"{SSTRACE}; fpath=({SCRIPTS} $fpath); autoload -Uz compinit; compinit -u -D; unsetopt list_beep\n"
    "zstyle ':completion:all-matches::::' completer _all_matches _complete; "
    "zle -C all-matches complete-word _generic; bindkey '^Xa' all-matches; "
    "zstyle ':completion:all-matches:*' insert yes",
}


@pytest.fixture(scope="module", params=[*SETUPS, "fish"])
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Shell | Fish"]:
    name = request.param.split()[0]
    if shutil.which(name) is None or ("package" in request.param and not PACKAGE.exists()):
        unmet(f"needs {request.param}")
    directory = tmp_path_factory.mktemp("shell")
    for file in FILES:
        path = directory / "files" / file
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if file[-1] == "/" else path.touch()
    if name == "fish":
        yield Fish(directory)
        return
    words = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[name]
    made = Shell(directory, words, SETUPS[request.param], "\x18a")
    yield made
    made.close()


class Fish:
    """fish says what it would offer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def ask(self, typed: str) -> list[str]:
        """As Shell does."""
        script = f"source {SCRIPTS}/sstrace.fish; complete -C {'sstrace ' + typed!r}"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True,
            cwd=self._directory / "files", env={**os.environ, "HOME": str(self._directory)},
        )  # fmt: skip
        assert not done.stderr
        return [line.split("\t")[0] for line in done.stdout.splitlines()]


def offers(shell: "Shell | Fish", typed: str) -> set[str]:
    """What is offered for the last word; an empty set when nothing is. Without what stands in front of a value."""
    found = shell.ask(typed)
    word = typed.rpartition(" ")[2]
    if found == [word]:
        return set()
    head = re.match(r"(--[\w-]+=)?", word)
    assert head
    return {re.sub(r"\\(.)", r"\1", one.removeprefix(head[0])) for one in found}


def spelled() -> Iterator[tuple[Entry, str]]:
    """Each option that takes an argument, by each of its names, as one begins the argument."""
    for entry in completions.ENTRIES:
        if entry.argument[:2] == "[=":
            yield entry, f"--{entry.name}="
        elif entry.argument:
            for name in completions.spellings(entry):
                yield entry, f"{name} "
            if len(entry.argument.split()) == 1:
                yield entry, f"--{entry.name}="


def expected(entry: Entry) -> set[str]:
    values = set(completions.words(entry).split())
    if "FILE" in entry.values:
        values |= {file.rstrip("/") for file in FILES}
    return values


@pytest.mark.parametrize(("entry", "typed"), [pytest.param(*case, id=case[1]) for case in spelled()])
def test_every_argument(shell: "Shell | Fish", entry: Entry, typed: str) -> None:
    found = {one.rstrip("/") for one in offers(shell, typed)}
    if "NETNS" in entry.values:
        words = set(completions.words(entry).split())
        assert words <= found
        assert all(Path("/run/netns", one).exists() for one in found - words)
    elif "GROUP" in entry.values:
        assert "root" in found
        assert "day.ndjson" not in found
    else:
        assert found == expected(entry)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("--schema=e", {"ecs"}),
        ("--schema e", {"ecs"}),
        ("--json --schema=n", {"native"}),
        ("--from da", {"day.ndjson", "day-13:55.ndjson"}),
        ("--from=da", {"day.ndjson", "day-13:55.ndjson"}),
        ("--replay day.ndjson --replay o", {"other.txt"}),
        ("--record a", {"a day.ndjson"}),
        ("-F o", {"other.txt"}),
        ("-tnF o", {"other.txt"}),
        ("-f in", {"inet", "inet6"}),
        ("-tf in", {"inet", "inet6"}),
        ("-A u", {"udp", "unix", "unix_dgram", "unix_stream", "unix_seqpacket"}),
        ("--query=pack", {"packet", "packet_raw", "packet_dgram"}),
        ("--between -5m ", set()),
        ("state cl", {"closed", "close-wait", "closing"}),
        ("--json from syn-", {"syn-sent", "syn-recv"}),
        ("from syn-sent to est", {"established"}),
        ("sport = ", set()),
        ("dev l", {"lo"}),
        ("dev = l", {"lo"}),
        ("--snap", {"--snapshot"}),
        ("--ser", {"--serve"}),
        ("from established sp", {"sport"}),
        ("--serve st", {"state"}),
    ],
)
def test_examples(shell: "Shell | Fish", typed: str, found: set[str]) -> None:
    assert offers(shell, typed) == found


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("-A tcp,ud", {"tcp,udp"}),
        ("--query=tcp,ud", {"tcp,udp"}),
        ("from syn-sent,est", {"syn-sent,established"}),
    ],
)
def test_words_joined_by_commas(shell: "Shell | Fish", typed: str, found: set[str]) -> None:
    assert offers(shell, typed) == found


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("--from live:ot", {"live:other.txt"}),
        ("--from=live:ot", {"live:other.txt"}),
        ("--sink syslog:ot", {"syslog:other.txt"}),
        ("--sink stdout:ot", set()),
    ],
)
def test_files_behind_a_colon(shell: "Shell | Fish", typed: str, found: set[str]) -> None:
    assert offers(shell, typed) in (found, {one.partition(":")[2] for one in found})


def test_every_option(shell: "Shell | Fish") -> None:
    assert offers(shell, "--") == {f"--{entry.name}" for entry in completions.ENTRIES}


def test_another_shell_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^sstrace: --completions tcsh: one is bash, zsh, fish$"):
        parse(["sstrace", "--completions", "tcsh"])
    for name in completions.SHELLS:
        assert parse(["sstrace", f"--completions={name}"]) == Early(completions.SHELLS[name]())


def test_what_stands_behind_a_word_of_a_filter(shell: "Shell | Fish") -> None:
    assert offers(shell, "role ") == {"client", "server"}
    assert offers(shell, "cause timeout-f") == {"timeout-fin-wait-2"}
    assert offers(shell, "comm d") == set()


HOSTILE = ["$(touch was-here)", "a b", "line\nfeed", "`id`", "'\"", "-n", "\x1b[2J", ";ls", "é", "*"]


def test_a_name_that_is_a_command_is_not_typed(tmp_path: Path) -> None:
    """What bash is given it inserts as it stands: of interfaces and namespaces, which others have named, words."""
    if shutil.which("bash") is None:
        unmet("needs bash")
    names = tmp_path / "names"
    names.mkdir()
    for name in HOSTILE:
        (names / name).touch()
    script = (
        f". {SCRIPTS}/sstrace.bash; value=; COMPREPLY=(); _sstrace_names {names}; "
        """eval "set -- ${COMPREPLY[*]}"; printf '%s\\0' "$@"; value='a\\ '; COMPREPLY=(); """
        f"""_sstrace_names {names}; printf %s "${{COMPREPLY[*]}}\""""
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, cwd=tmp_path, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    *found, prefixed = done.stdout.decode().split("\0")
    assert (sorted(found), done.stderr) == (sorted(HOSTILE), b"")
    assert prefixed == "a\\ b"
    assert not (tmp_path / "was-here").exists()
