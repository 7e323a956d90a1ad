"""What sentences of sstrace tell to type: collected from the code, and said here of each. See test_advice in unit and
kernel.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sstrace.query.command import Act

ROOT = Path(__file__).resolve().parents[1]
NAMES = re.compile(
    r"(?<![\w`-])--?[a-zA-Z][a-z-]*|\bsstrace --|`\w"
    r"|\b(?:apt|apt-get|dnf|pacman|apk|zypper|pip|pipx|sysctl|mount|chown|sudo|modprobe|zstd)\b"
)
TABLES = {
    "query/catalog.py": "tests/unit/query/test_catalog.py",
    "query/completions.py": "tests/unit/test_completions.py",
    "query/usage.py": "test_the_examples_of_the_help",
}
"""Modules that are such text through and through → where that is typed."""

FACT: tuple[str, ...] = ()
"""It advises nothing, it says how things are."""
MADE = ("made of other words: ",)
"""The command is put together when it is said; what follows is where that is tried."""

ADVICE: dict[str, tuple[str, ...]] = {
    'Try "sstrace --help".\n': ("sstrace --help",),
    "{} {} or state established; sstrace --help has them all": (*MADE, "tests/unit/query/test_meant.py"),
    "sstrace: --completions {}: one is {}": (*MADE, "tests/unit/test_completions.py"),
    "somebody killed the socket (ss -K, or a BPF program)": FACT,
    # A fleet.
    "--from {}": FACT,
    "--sink {}": FACT,
    "sstrace: --replay FILE --sink clickhouse brings whole recordings into an engine: leave {} away, and give it when "
    "you ask": (*MADE, "tests/unit/fleet/test_fleet_backfill.py"),
    **{
        f"sstrace: --parquet writes recorded lines as they are: leave {what} away": (
            *MADE,
            "tests/unit/fleet/test_fleet_documents.py",
        )
        for what in ("the filter", "{}")
    },
    "sstrace: -D dumps the table of one host: choose with --host, of {}": (*MADE, "tests/unit/recording/test_fleet.py"),
    "sstrace: #SEQ numbers the lines of one recording, and {} has {}: choose a host that has one (--host), or say a "
    "time": (*MADE, "tests/unit/recording/test_fleet.py"),
    "sstrace --fleet-schema | {}": (*MADE, "tests/unit/fleet/test_fleet_refused.py"),
    "{} has tables of an earlier sstrace: sstrace --fleet-schema brings them up to date": ("sstrace --fleet-schema",),
    "{}; or have an engine keep it: pip install 'sstrace[fleet]'": ("extra fleet",),
    "{} needs chDB ({} is missing): pip install 'sstrace[fleet]'": ("extra fleet",),
    # Doctor.
    "Only privilege is missing: run it with sudo.": ("root",),
    "run it with sudo": ("root",),
    "what other users' processes hold cannot be seen: run it with sudo": ("root",),
    "sysctl kernel.kptr_restrict=1, and CAP_SYSLOG; until then no causes, no SYN-RECV or TIME-WAIT events": (
        "sysctl kernel.kptr_restrict",
    ),
    "iproute2 {}, unknown: --snapshot answers as ss {}": FACT,
    "iproute2 {}: --snapshot answers as ss {}": FACT,
    "not on PATH: --snapshot answers as ss {}": FACT,
    "no cgroup2 mount: cgroups print as unreachable": FACT,
    "{}; --snapshot reads less out of /proc meanwhile": ("sstrace --snapshot -tan",),
    "--poll 1s lives on netlink alone": ("sstrace --poll 1s",),
    "--poll 1s does without, and sees less": ("sstrace --stats --poll 1s", "sstrace --verify --poll 1s"),
    "until then a trace and --watch look each second": ("sstrace", "sstrace --watch"),
    # The last resort.
    "sstrace: {}; --debug shows where\n": ("sstrace --debug",),
    "; --debug shows where": ("sstrace --snapshot --debug -tan",),
    # Packages.
    **{
        f"{how} {package}": ("package",)
        for how, package in (
            ("apt install", "python3-bpfcc"),
            ("dnf install", "python3-bcc"),
            ("pacman -S", "python-bcc"),
            ("apk add", "py3-bcc"),
            ("zypper install", "python3-bcc"),
        )
    },
    "make it with {} -m venv --system-site-packages, or pipx install --python {} --system-site-packages": (
        *MADE,
        "tests/unit/sources/test_bindings.py",
    ),
    "libbpf is not installed: it comes with bcc (Debian: apt install python3-bpfcc)": ("package",),
    "--metrics needs prometheus_client: pip install 'sstrace[metrics]', or apt-get install python3-prometheus-client": (
        "extra metrics",
        "package",
    ),
    "--sink otlp needs OpenTelemetry's SDK ({} is missing): pip install 'sstrace[otlp]'": ("extra otlp",),
    "{} is compressed with zstd: install the Python package zstandard, or unpack it with zstd -d": ("extra zstd",),
    # The system.
    "tracing needs root (or CAP_BPF, CAP_PERFMON and CAP_SYSLOG): run it with sudo": ("root",),
    "the kernel refused to {}: this root lacks CAP_BPF or CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8); in a "
    "container, start it with --privileged or add both": ("root",),
    "tracefs is not mounted ({}): mount -t tracefs tracefs /sys/kernel/tracing": (
        "unshare --mount mount -t tracefs tracefs /sys/kernel/tracing",
    ),
    '"mount --make-rslave /"': FACT,
    "mount of /sys": FACT,
    "Failed to find cgroup2 mount": FACT,
    "Failed to open cgroup2 mount": FACT,
    # Modes.
    "sstrace: --watch needs a terminal on standard input and output; without one use --snapshot": (
        "sstrace --snapshot",
    ),
    "sstrace: --watch needs a terminal that can move its cursor, and TERM says that this one cannot": FACT,
    "sstrace: --watch cannot ask the terminal for its modes: {}": FACT,
    "sstrace: --watch takes keys from standard input, so no recording: name a file, or a named pipe": FACT,
    "sstrace: --watch goes by time: write --at with a time, not #SEQ": (*MADE, "tests/unit/watch/test_player.py"),
    "sstrace: this server does not count: start it with sstrace --serve --stats": ("sstrace --serve --stats",),
    "no sstrace serves at {}: start one with sstrace --serve": ("sstrace --serve",),
    "sstrace: {} is not open to you: it is root's, or its --group's": ("sstrace --serve --group nogroup",),
    "to watch a served table takes root, or membership of the server's --group": (
        "root",
        "sstrace --serve --group nogroup",
    ),
    "cannot record to {}: the server becomes uid {} before it writes, who may not make files in {}: add a user sstrace "
    "with a directory for it (useradd -r sstrace; install -d -o sstrace DIR), or add --keep-privileges": (
        "sstrace --serve --record new.ndjson --rotate 1M --keep-privileges",
        "sstrace --serve --record new.ndjson --keep-privileges",
    ),
    "there is no uid to become that nobody uses: add a user sstrace, or add --keep-privileges": (
        "sstrace --serve --keep-privileges",
    ),
    "sstrace: --between looks twice into the recording, and {} is a pipe": FACT,
    "sstrace: --between needs both ends of the recording, and {} is a pipe": FACT,
    "sstrace: --between takes times; #SEQ is for --at": ("sstrace --snapshot --from day.ndjson --at #1 -tan",),
    "sstrace: {} is after {}: write --between {} {}": (*MADE, "tests/unit/recording/test_past_cli.py"),
    "sstrace: {} is too large for this question: {} GiB of lines would have to be read, and {} GiB is the most: ask "
    "for fewer hosts (--host), or less time (--between)": (
        "sstrace --snapshot --from . --host h -tan",
        "sstrace --replay . --between +0s -0s",
    ),
    "not all end together, {}, {}: each table is that of its own end; --at TIME is one moment": (
        "sstrace --snapshot --from . --at +0s -tan",
    ),
    "Rows on which table and kernel disagreed (--verify).": FACT,
    # Network namespaces.
    **{
        f"sstrace: --netns {sentence}": FACT
        for sentence in (
            "{}: no network namespace is called so: {}",
            "{}: no network namespace was called so {}: {}",
            "{}: this server follows its own network namespace alone",
            "{}: that is no network namespace",
            "{}: there is no network namespace with this inode",
            "{}: there is no process {}",
            "{}: {}",
        )
    },
    "sstrace: this server does not follow the network namespace that it is in: ask for others with --netns": (
        *MADE,
        "tests/kernel/test_netns_serve.py",
    ),
    "-s of network namespaces is not for a server that has given up root, nor for who is not root: ask the kernel": (
        *MADE,
        "tests/kernel/test_netns_serve.py",
    ),
    "sstrace: --serve --netns enters network namespaces, which takes root (CAP_SYS_ADMIN): run it with sudo": ("root",),
    "sstrace: --netns {} takes root: run it with sudo": ("root",),
    "sstrace: --netns {}: to see into process {} takes root: run it with sudo": ("root",),
    "entering {} takes root (CAP_SYS_ADMIN): run it with sudo": ("root",),
    "network namespaces that neither a process is in nor a mount names are not seen": FACT,
    "without that, network namespaces are not told apart: do without --netns": ("sstrace",),
    "--netns all": ("sstrace --snapshot --netns all -tln",),
    "sstrace {} --netns all": (*MADE, "tests/kernel/test_netns_snapshot.py"),
    "sstrace --help has it": ("sstrace --help",),
    "--metrics counts everything: the filter selects what is shown": FACT,
    "netns selects among the namespaces of --netns all": ("sstrace --snapshot --netns all -tln netns nosuch",),
    'sstrace: --netns "{}": write all, or names, pids, inodes and paths, joined by commas': (
        "sstrace --snapshot --netns all -tln",
    ),
    "sstrace: {} is of one network namespace: enter it with -N": FACT,
    "sstrace: --explain {} is of a recording, whose lines have an id: name it with --from FILE, or write both ends": (
        "sstrace --explain #1 --from day.ndjson",
    ),
    'sstrace: --explain "{}" is no connection: write 10.0.0.1:40000-10.0.0.2:443, :40000 or #17': FACT,
    'sstrace: --explain "{}": names are not looked up: write addresses, or {} for any': FACT,
    "sstrace: --life tells how connections ended, --events what happens before: choose one": FACT,
    "sstrace: -N enters one network namespace, --netns looks into any number: choose one": FACT,
    "the network namespace, as --netns shows it, or a pattern": FACT,
    # The command line.
    "sstrace: only TCP, MPTCP, UDP, raw, unix, packet, netlink, vsock and XDP sockets are followed: look at others "
    "with --snapshot": ("sstrace --snapshot -Sa",),
    "sstrace: --sink clickhouse is of TCP, MPTCP, UDP and raw sockets: a trace tells of others, and "
    "--record keeps them": ("sstrace -x --record day.ndjson",),
    "sstrace: --events {} is of {} alone: choose {}": ("sstrace -t --events reset", "sstrace -u --events error"),
    "the sstrace that serves at {} does not follow {}: --serve -{} does": ("sstrace --serve -u", "sstrace --serve -uw"),
    "{} sockets do not tell what happens to them: look at these with --snapshot": ("sstrace --snapshot -xa",),
    "{}: --bpf-maps and --bpf-map-id cannot be used together": FACT,
    'sstrace: --speed "{}" is not a speed: write 1, 0.5, 10 or max': tuple(
        f"sstrace --replay day.ndjson --speed {speed}" for speed in ("1000", "10", "max")
    ),
    'sstrace: --metrics "{}" is not [ADDR:]PORT: write 9435, 127.0.0.1:9435 or [::1]:9435': tuple(
        f"sstrace --metrics={where}" for where in ("9435", "127.0.0.1:9435", "[::1]:9435")
    ),
    "sstrace: --schema {} is of events: {} has the native one alone": ("sstrace --snapshot --json --schema native",),
    "sstrace: --json has its times in UTC: --time {} is of text": ("sstrace --time iso", "sstrace --json --time utc"),
    "sstrace: --time {} is of lines of events: here write utc, or nothing": ("sstrace --watch --time utc",),
    "sstrace: --columns is of text: --json has every key, and jq chooses among them": (
        "sstrace --columns time,to",
        "sstrace --json",
    ),
    "--from live:": FACT,
    "--sink {}:": FACT,
    "sstrace: --sink clickhouse keeps everything, so that whoever asks has whole tables: leave the filter away, and "
    "give it when you ask": ("sstrace --sink clickhouse:http://127.0.0.1:9 --spool spool",),
    "compile it anew: scripts/sstrace does, and so does pip install .": (*MADE, "scripts/setup.sh"),
    "{} needs ClickHouse's client ({} is missing): pip install 'sstrace[clickhouse]'": ("extra clickhouse",),
    "{} lacks tables, or columns, that this sstrace writes ({}): sstrace --fleet-schema | {}": (
        *MADE,
        "tests/unit/output/test_fleet_sink.py",
    ),
    "clickhouse-client --host {}{} --database {}": (*MADE, "tests/unit/output/test_fleet_sink.py"),
    "clickhouse-client --host {} --query 'CREATE DATABASE {}'": (*MADE, "tests/unit/output/test_fleet_sink.py"),
    " --user {}": FACT,
    "sstrace: --spool {}: write DIR, SIZE (500M, 2G), or DIR,SIZE": tuple(
        f"sstrace --sink clickhouse:http://127.0.0.1:9 --spool {where}" for where in ("spool", "spool,2G")
    ),
    "sstrace: --sink {}: it is one of {}": tuple(f"sstrace --sink {one}" for one in ("stdout", "journald", "syslog")),
    **{
        act.value: (*MADE, "tests/unit/query/test_catalog.py")
        for act in Act
        if " " in act.value and act.value.startswith("--")
    },
    **{
        f"did you mean {words}?": (*MADE, "tests/unit/query/test_meant.py")
        for words in ("-t", "-t -4", "-t -6", "--snapshot {}")
    },
    "a recording is counted with --stats --from {}": (*MADE, "tests/unit/query/test_meant.py"),
    "a recording is gone through with --watch --replay {}": (*MADE, "tests/unit/query/test_meant.py"),
    "sstrace: --html has a file of its own, as --stats writes on standard output: name one": FACT,
    "a recording is read with --replay {}, or --snapshot --from {}": (*MADE, "tests/unit/query/test_meant.py"),
    "sstrace --watch": FACT,
}


def sentences() -> Iterator[tuple[str, str]]:
    """(where, text) of every string of several words that names an option or a program; what is put in is ``{}``."""
    for path in sorted((ROOT / "sstrace").rglob("*.py")):
        inner = path.relative_to(ROOT / "sstrace").as_posix()
        if inner in TABLES:
            continue
        tree = ast.parse(path.read_text())
        passed = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                passed.add(node.value)  # a docstring
            elif isinstance(node, ast.JoinedStr):
                passed.update(value for value in node.values if isinstance(value, ast.Constant))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed:
                text = node.value
            else:
                continue
            if " " in text.strip() and NAMES.search(text):
                yield f"{inner}:{node.lineno}", text


COMMANDS = sorted({words for told in ADVICE.values() if told[:1] != MADE for words in told})
"""What is told to type: a command line of sstrace or of the system, ``root``, ``package``, ``extra NAME``."""

RECORDING = (
    '{"type":"meta","schema":"sstrace/1","version":"0","ts":"2026-11-20T15:00:00.000000000Z","mono_ns":1000000000,"seq":0,"host":"h",'
    '"kernel":"k","boot_id":"b","netns":1}\n'
    '{"type":"seen","ts":"2026-11-20T15:00:00.000000000Z","mono_ns":1000000000,"seq":1,"id":1,"netid":"tcp",'
    '"family":"inet","src":"10.0.0.1","sport":22,"dst":"0.0.0.0","dport":0,"netns":1,"state":"LISTEN"}\n'
)
"""``day.ndjson``."""
