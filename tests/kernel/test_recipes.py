"""What README and docs show is run as it stands there: commands, recipes whose program can be had, the story."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Netns, unmet
from shown import ROOT, WITHOUT_ROOT, Block, blocks, commands, put_on_path
from test_sinks import Collector
from tracing import close_all, listener, wait

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

RECIPES = blocks("docs/recipes.md")
OWN_WORLD = """
set -e
for place in /run /var/log /etc/logrotate.d; do mount -t tmpfs none $place; done
mkdir -p /run/systemd /run/log /run/lock /var/log/sstrace
exec "$@"
"""
"""A mount namespace in which a recipe may write where it says."""
REFUSED = 81
SERVED = 7919


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    yield
    close_all()


@contextmanager
def traffic(netns: Netns) -> Iterator[None]:
    """Connections that are served and closed, and such as are refused, as long as somebody looks (bounded)."""
    over = threading.Event()

    def make() -> None:
        with listener(port=SERVED) as door:
            for _ in range(3000):
                if over.wait(0.02):
                    return
                with socket.create_connection(door.getsockname()), door.accept()[0]:
                    pass
                with socket.socket() as one:
                    one.connect_ex(("127.0.0.1", REFUSED))

    thread = threading.Thread(target=netns.call, args=(make,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Shell:
    """bash in the namespace, with ``sstrace`` on PATH, in a directory of its own."""

    def __init__(self, netns: Netns, directory: Path, *inside: str) -> None:
        self.directory = directory
        self.netns = netns
        self.inside = inside
        """Words before bash: into other namespaces."""
        self.env = {
            **os.environ,
            "PATH": put_on_path(directory),
            "SHOWN_DURATION": "2s",
            "HOME": str(directory),
            "TERM": "xterm",
        }

    def start(self, script: str, **env: str) -> "subprocess.Popen[str]":
        """Start a script, standard streams as pipes."""
        shell = ["timeout", "150", "bash", "-o", "pipefail", "-c", f"cd {self.directory}\n{script}"]
        return subprocess.Popen(
            [*self.netns.prefix, *self.inside, *shell],
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, script: str, *, codes: tuple[int, ...] = (0,), **env: str) -> tuple[str, str]:
        """Run to the end: what came out on both streams."""
        process = self.start(script, **env)
        out, err = process.communicate(timeout=120)
        assert process.returncode in codes, (script, process.returncode, out[-2000:], err)
        assert "Traceback" not in err, err
        assert "did not reach" not in err, err
        return out, err


@pytest.fixture
def shell(netns: Netns, tmp_path: Path) -> Shell:
    return Shell(netns, tmp_path)


@pytest.fixture
def world(netns: Netns, tmp_path: Path) -> Iterator[Shell]:
    """The same, where a recipe may write into /run, /var/log and /etc/logrotate.d."""
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", OWN_WORLD, "sh", "sh", "-c", "echo ready; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as keeper:  # fmt: skip
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        yield Shell(netns, tmp_path, "nsenter", f"--target={keeper.pid}", "--mount", "--")
        keeper.terminate()


def recipe(heading: str, language: str = "sh") -> str:
    """The one block of a recipe that is in a language."""
    (block,) = [one for one in RECIPES if (one.heading, one.language) == (heading, language)]
    return block.text


def program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/sbin:/lib/systemd")
    if found is None:
        unmet(f"needs {name} (package {package})")
    return found


# ------------------------------------------------------------------------------------------------------------ commands


def shown() -> list[str]:
    """Each command line of sstrace that a block shows, but for those that have a test of their own."""
    apart = {"DuckDB", "journald", "OpenTelemetry Collector", "ClickHouse", "rsyslog", "A live table for scripts"}
    found = []
    for block in (*blocks("README.md", "docs/recording.md", "docs/watch.md", "docs/serve.md"), *RECIPES):
        if block.language in ("sh", "console") and block.heading not in apart:
            found += [line for line in commands(block) if line.startswith("sstrace")]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording, day.ndjson, of some traffic."""
    directory = tmp_path_factory.mktemp("day")
    netns = Netns()
    try:
        with traffic(netns):
            Shell(netns, directory)("sstrace --record day.ndjson > /dev/null")
    finally:
        netns.close()
    return directory / "day.ndjson"


@pytest.mark.parametrize("line", shown())
def test_every_command_runs(shell: Shell, day: Path, line: str) -> None:
    """To its end, without a complaint."""
    if "--record" not in line:
        shutil.copy(day, shell.directory)
    line = re.sub(r"--at [\d:]+", "--at +1s", line)  # the time of the example's day
    if "--watch" in line:
        line = f"script -qec {json.dumps(line)} /dev/null"
    with traffic(shell.netns):
        out, err = shell(line)
    assert out or "--record" in line or "5432" in line or "held > 5m" in line, err
    assert 'Try "' not in err
    if "--record" in line:
        shell("sstrace --snapshot --from day.ndjson -tan")


PAGES = {path.name: [line for block in blocks(f"docs/{path.name}") for line in commands(block)]
         for path in sorted((ROOT / "docs").glob("for-*.md"))}  # fmt: skip


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, lines in PAGES.items() for line in lines])
def test_every_command_of_the_pages_for_their_readers_runs(world: Shell, day: Path, page: str, line: str) -> None:
    """In a world with two named namespaces, and without root's capabilities where the page does without root."""
    if "jq" in line:
        program("jq", "jq")
    if "--record" not in line:
        shutil.copy(day, world.directory)
    world("for name in shop web; do ip netns add $name; ip -n $name link set lo up; done")
    if "without-root" in page:
        world.inside = (*world.inside, *WITHOUT_ROOT)
    with traffic(world.netns):
        # --verify may be too busy to compare anything; --doctor says by its code that something is missing.
        out, err = world(line, codes=(0, 6) if "--verify" in line else (0, 4) if "--doctor" in line else (0,))
    assert out or "--verify" in line, err
    assert 'Try "' not in err


def test_each_page_has_ten_commands() -> None:
    assert len(PAGES) == 5
    assert {len(lines) for lines in PAGES.values()} == {10}


def test_there_are_commands() -> None:
    assert len(shown()) > 12


# ------------------------------------------------------------------------------------------------------------- recipes


def test_jq(shell: Shell) -> None:
    with traffic(shell.netns):
        out, _ = shell(recipe("jq"))
    rows = [line.split("\t") for line in out.splitlines()]
    assert ["127.0.0.1", str(REFUSED), "refused"] in [row[1:] for row in rows]
    assert all(len(row) == 4 and row[0].endswith("Z") and row[3] for row in rows)


@pytest.mark.parametrize("quiet", [True, False])
def test_duckdb(shell: Shell, quiet: bool) -> None:
    """Also where nothing happens."""
    program("duckdb", "duckdb-cli, from PyPI")
    script = recipe("DuckDB").replace("duckdb -c", "duckdb -csv -c")
    if quiet:
        assert shell(script)[0].split() == ["cause,ends,seconds"]
        return
    with traffic(shell.netns):
        head, *rows = shell(script)[0].split()
    assert head == "cause,ends,seconds"
    assert {"fin-by-peer", "refused"} <= {row.split(",")[0] for row in rows}


@pytest.mark.parametrize("quiet", [True, False])
def test_duckdb_from_python(world: Shell, quiet: bool) -> None:
    """Of a file and what was rotated of it."""
    (world.directory / "ends.py").write_text(recipe("DuckDB", "python"))
    file = "/var/log/sstrace/events.ndjson"
    if quiet:
        world(f"sstrace --json --output {file} to closed")
        assert "0 rows" in world("python ends.py")[0]
        return
    with traffic(world.netns):
        world(f"sstrace --json --output {file} to closed; gzip {file}; mv {file}.gz {file}.2.gz")
        world(f"sstrace --json --output {file} to closed; mv {file} {file}.1")
        world(f"sstrace --json --output {file} to closed")
    said = world("python ends.py")[0]
    lines = world(f"zcat -f {file}*")[0].splitlines()
    refused = sum(json.loads(line).get("cause") == "refused" for line in lines)
    assert re.search(rf"│ refused\s*│\s*{refused} │", said), said


def test_rsyslog(world: Shell) -> None:
    rsyslogd = program("rsyslogd", "rsyslog")
    # The system's own /dev/log is somebody else's here.
    conf = recipe("rsyslog", "").replace('module(load="imuxsock")', 'module(load="imuxsock" SysSock.Use="off")')
    (world.directory / "rsyslog.conf").write_text(conf)
    daemon = world.start(f"exec {rsyslogd} -n -f rsyslog.conf -i {world.directory}/pid")
    try:
        world("until [ -S /run/sstrace.log ]; do sleep 0.05; done")
        with traffic(world.netns):
            world(recipe("rsyslog"))
        world("until grep -q refused /var/log/sstrace.log; do sleep 0.05; done")
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)


def test_journald(world: Shell) -> None:
    journald = program("systemd-journald", "systemd")
    program("journalctl", "systemd")
    start, *asks = [re.sub(r"\s+#.*", "", line) for line in recipe("journald").splitlines()]
    daemon = world.start(f"exec {journald}")
    try:
        world("until [ -S /run/systemd/journal/socket ]; do sleep 0.05; done")
        with traffic(world.netns):
            world(f"{start}\nwait $!")
        for ask in asks:
            found = world(f"until {ask} --no-pager -D /run/log/journal | grep refused; do sleep 0.05; done")[0]
            assert str(REFUSED) in found
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)


def test_opentelemetry_straight(shell: Shell) -> None:
    """The second line; the first installs what the suite has."""
    install, line = recipe("OpenTelemetry Collector").splitlines()
    assert install == "pip install 'sstrace[otlp]'"
    collector: Collector = shell.netns.call(Collector, 4318)
    thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with traffic(shell.netns):
            shell(line)
        values = [{one.key: one.value for one in record.attributes} for _, record in collector.records]
        assert REFUSED in [one["network.peer.port"].int_value for one in values if "network.peer.port" in one]
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()


def test_a_program_of_your_own(shell: Shell) -> None:
    (shell.directory / "own.py").write_text(recipe("A program of your own", "python"))
    with traffic(shell.netns):
        out, _ = shell("python -u own.py")
    assert f"127.0.0.1 {REFUSED} [{{'comm': " in out


def test_a_live_table(shell: Shell) -> None:
    """What the unit starts; asked as the recipe asks."""
    enable, ask = commands(next(one for one in RECIPES if one.heading == "A live table for scripts"))
    assert enable == "systemctl enable --now sstrace"
    unit = (ROOT / "packaging" / "sstrace.service").read_text()
    (start,) = re.findall(r"^ExecStart=/usr/bin/(.*)$", unit, re.MULTILINE)
    ready, live = shell.directory / "ready", shell.directory / "live.sock"
    server = shell.start(
        start.replace("--serve", f"--serve={live} --keep-privileges"), SHOWN_READY=str(ready), SHOWN_DURATION="60s"
    )
    try:
        wait("it serves", ready.exists, 60)
        out, err = shell(ask.replace("--from live", f"--from live:{live}"))
        assert out.startswith("Recv-Q Send-Q"), err
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_logrotate(world: Shell) -> None:
    """The files that are shipped are those that the recipe shows; a rotation loses no line."""
    program("logrotate", "logrotate")
    packaging = ROOT / "packaging"
    unit = (packaging / "sstrace-events.service").read_text()
    heading = "As a service, with logrotate"
    for line in recipe(heading, "ini").splitlines()[1:]:
        assert f"{line}\n" in unit
    assert recipe(heading, "") == (packaging / "sstrace.logrotate").read_text()
    (start,) = re.findall(r"^ExecStart=/usr/bin/(.*)$", unit, re.MULTILINE)
    (reload,) = re.findall(r"^ExecReload=(.*)$", unit, re.MULTILINE)
    # No systemd here: what it would do with the unit's ExecReload.
    systemctl = world.directory / "systemctl"
    systemctl.write_text(
        '#!/bin/sh\n[ "$*" = "try-reload-or-restart sstrace-events.service" ] || exit 1\n'
        f"MAINPID=$(cat {world.directory}/pid)\n{reload}\n"
    )
    systemctl.chmod(0o755)
    world(f"cp {packaging}/sstrace.logrotate /etc/logrotate.d/sstrace; chmod 644 /etc/logrotate.d/sstrace")
    ready = world.directory / "ready"
    tracer = world.start(f"echo $$ > pid; exec {start}", SHOWN_READY=str(ready), SHOWN_DURATION="120s")
    file = "/var/log/sstrace/events.ndjson"
    try:
        wait("it traces", ready.exists, 60)
        with traffic(world.netns):
            for number in range(3):
                world(f"until grep -q refused {file}; do sleep 0.05; done")
                world(f"logrotate -fs {world.directory}/state /etc/logrotate.d/sstrace")
                world(f"until [ -s {file} ]; do sleep 0.05; done; [ -e {file}.1 ]")
                assert number < 1 or world(f"ls {file}.2.gz")
        tracer.send_signal(signal.SIGTERM)
        _, err = tracer.communicate(timeout=60)
        assert tracer.returncode == 0, err
        lines = [
            json.loads(line) for line in world(f"zcat {file}.3.gz {file}.2.gz; cat {file}.1 {file}")[0].splitlines()
        ]
        assert [line["seq"] for line in lines if line["type"] == "state"] == sorted(
            {line["seq"] for line in lines if line["type"] == "state"}
        )
        assert sum(line["type"] == "meta" for line in lines) == 4
    finally:
        if tracer.poll() is None:
            tracer.kill()
            tracer.communicate()


UNHAD: Mapping[str, str] = {
    "Vector": "no package",
    "Fluent Bit": "no package",
    "Logstash, Filebeat, Elasticsearch": "no package",
    "ClickHouse": "no package of this age",
}
"""Recipes whose programs no distribution that the suite runs on has."""
RUN: Mapping[str, Callable[..., None]] = {
    "As a service, with logrotate": test_logrotate,
    "jq": test_jq,
    "DuckDB": test_duckdb,
    "rsyslog": test_rsyslog,
    "journald": test_journald,
    "OpenTelemetry Collector": test_opentelemetry_straight,
    "A program of your own": test_a_program_of_your_own,
    "A live table for scripts": test_a_live_table,
}


def test_marks_are_true() -> None:
    """Whatever is marked is run, and what is not could not be."""
    text = (ROOT / "docs" / "recipes.md").read_text()
    marked = set(re.findall(r"^## (.*) ●$", text, re.MULTILINE))
    every = {block.heading for block in RECIPES} - {"At home in log pipelines", "How lines leave"}
    assert marked == set(RUN)
    assert every == marked | set(UNHAD)


# --------------------------------------------------------------------------------------------------------------- story


def test_the_story_can_be_repeated(shell: Shell) -> None:
    """All of docs/story.md, in one shell: each sentence that draws a conclusion has its figures."""
    told = blocks("docs/story.md")
    for block in told:
        if block.language == "python":
            name = re.match(r"# (\S+)\n", block.text)
            assert name
            (shell.directory / name[1]).write_text(block.text)
    lines = [line for block in told if block.language == "console" for line in commands(block)]
    assert len(lines) == 14
    script = ["set -m", "PS4='+ '"]
    for number, line in enumerate(lines):
        if line.startswith("T="):
            line = f"T=$({lines[6]} --json | jq -r 'select(.type==\"state\").ts')"  # noqa: PLW2901
        script += [f"echo '=== {number}'", line]
        if "ready" in line:
            script.append("until [ -e ready ]; do sleep 0.05; done")
        if "shop.py" in line:
            script.append("until ss -Htln sport = :8080 | grep -q .; do sleep 0.05; done")
        if line.startswith("kill"):
            script.append("wait %1")
    out, err = shell("\n".join(script), SHOWN_DURATION="120s")
    parts = dict(re.findall(r"^=== (\d+)\n(.*?)(?=^=== |\Z)", out, re.MULTILINE | re.DOTALL))
    said = {line: parts[str(number)] for number, line in enumerate(lines)}
    lost = int(re.findall(r"(\d+) customers were turned away", said["python3 day.py"])[0])
    assert lost == 17
    digest = said["sstrace --stats --from day.ndjson"]
    assert re.search(r"^refused +22 ", digest, re.MULTILINE), err
    (end,) = [line for line in said[lines[6]].splitlines() if "LISTEN" in line]
    assert end.endswith("[closed]")
    waiting = [line.split() for line in said[lines[8]].splitlines()[1:]]
    assert len(waiting) == 15
    assert {line[3].rpartition(":")[0] for line in waiting} == {"127.0.0.2"}
    assert re.search(r"^127.0.0.2 +15 +0 +0 ", said[lines[9]], re.MULTILINE)
    assert said[lines[10]].count("ESTAB -> CLOSE-WAIT") == 15
    assert said["tail -1 shop.err"] == "OSError: [Errno 24] Too many open files\n"
    assert len(said[lines[-1]].splitlines()) == 15


def test_every_block_is_known() -> None:
    """A block in a language that nobody runs here is a new kind: say how it is tested."""
    known = {"sh", "console", "python", "", "ini", "yaml", "toml", "sql", "text", "promql", "json", "mermaid"}
    found: set[Block] = set()
    for path in ("README.md", *sorted(str(one.relative_to(ROOT)) for one in (ROOT / "docs").glob("*.md"))):
        found |= {block for block in blocks(path) if block.language not in known}
    assert not found
