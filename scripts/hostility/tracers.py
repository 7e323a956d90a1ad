"""Several tracers at once, three of ours and bcc's: each tells everything, and the table of none drifts."""

import os
import re
import signal
import socket
import subprocess
from collections import Counter
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from conftest import Netns, program
from tracing import Trace, wait

from hostility.campaign import SSTRACE, Bounds, Tally, namespace

OURS = 3
PORT = 7919

SAME = {
    ("SYN_SENT", "ESTABLISHED"): ("SYN-SENT", "ESTAB"),
    ("SYN_RECV", "ESTABLISHED"): ("SYN-RECV", "ESTAB"),
    ("ESTABLISHED", "FIN_WAIT1"): ("ESTAB", "FIN-WAIT-1"),
    ("ESTABLISHED", "CLOSE_WAIT"): ("ESTAB", "CLOSE-WAIT"),
    ("CLOSE_WAIT", "LAST_ACK"): ("CLOSE-WAIT", "LAST-ACK"),
    ("LAST_ACK", "CLOSE"): ("LAST-ACK", "UNCONN"),
}
"""tcpstates' transitions that are ours, too; it does not hear request and timewait sockets."""
_OVERHEARD = 50
"""One in so many transitions may be missing of what tcpstates tells."""
_LINE = re.compile(r" (\d+) +\S+ +(\d+) +(\w+) +-> (\w+) +[\d.]+$", re.MULTILINE)


def run(bounds: Bounds, tally: Tally) -> None:
    """``count`` connections, told by all."""
    how = f"{bounds.count} connections"
    with namespace() as netns, ExitStack() as stack:
        traces = []
        for number in range(OURS):
            directory = bounds.scratch / str(number)
            directory.mkdir()
            traces.append(stack.enter_context(Trace(SSTRACE, netns, directory, "dport", "=", f":{PORT}")))
        verify = bounds.scratch / "verify"
        verify.mkdir()
        compared = stack.enter_context(Trace(SSTRACE, netns, verify, "--verify", "--interval", "200ms"))
        theirs = _tcpstates(netns, bounds.scratch, stack)
        netns.call(_connections, bounds.count)
        told, steps = [], Counter[tuple[int, int, str, str]]()
        for number, trace in enumerate(traces):
            with tally.attempt(f"tracer {number}", how):
                wait("it has told all", partial(_has_told, trace, bounds.count), 60)
                assert trace.stop() == 0
                assert ", 0 lost" in trace.stderr, trace.stderr
                told.append([(line["sport"], line["from"], line["to"]) for line in trace.states])
                steps = Counter((line["sport"], line["dport"], line["from"], line["to"]) for line in trace.states)
        with tally.attempt("they say the same", how):
            # What no program was run for is healed by each for itself, as of another moment.
            if all("missed" not in trace.stderr for trace in traces):
                assert all(sorted(one) == sorted(told[0]) for one in told)
        with tally.attempt("--verify", how):
            assert compared.stop() == 0, compared.text
        if theirs is not None:
            process, out = theirs
            ours = Counter({step: count for step, count in steps.items() if step[2:] in SAME.values()})
            with tally.attempt("bcc's tcpstates", how):
                with suppress(AssertionError):
                    wait("it has told all", lambda: _their_steps(out).total() >= ours.total(), 30)
                assert process.poll() is None
                found = _their_steps(out)
                missing = ours - found
                # Where it would interrupt a BPF program, the kernel leaves a perf event's out (trace_call_bpf, in
                # kernel/trace/bpf_trace.c), and tells nobody.
                said = f"it counts otherwise: {[*(found - ours)][:3]}, and not {[*missing][:3]}"
                assert not found - ours, said
                assert missing.total() <= ours.total() // _OVERHEARD, said


def _has_told(trace: Trace, count: int) -> bool:
    opened: int = sum(line["to"] == "ESTAB" for line in trace.states)
    return opened == count


def _their_steps(out: Path) -> Counter[tuple[int, int, str, str]]:
    """How often tcpstates has told which step of the end that our filter selects, between which ports."""
    found = ((int(here), int(there), old, new) for here, there, old, new in _LINE.findall(out.read_text()))
    return Counter(
        (here, there, *SAME[old, new]) for here, there, old, new in found if there == PORT and (old, new) in SAME
    )


def _connections(count: int) -> None:
    with socket.create_server(("127.0.0.1", PORT)) as listener:
        for _ in range(count):
            with socket.create_connection(listener.getsockname()), listener.accept()[0]:
                pass


def _tcpstates(netns: Netns, scratch: Path, stack: ExitStack) -> tuple[subprocess.Popen[bytes], Path] | None:
    """Where bench/trace has found or fetched it before."""
    bench = program("bench/trace")
    if not (bench.CACHE / "headers").exists() and not Path(f"/lib/modules/{os.uname().release}/build").exists():
        return None
    tracers = bench.tcpstates()
    if not tracers:
        return None
    out = scratch / "out"
    with out.open("wb") as file, (scratch / "err").open("wb") as err:
        process = subprocess.Popen(
            [*netns.prefix, *tracers[0].command], env={**os.environ, **tracers[0].env}, stdout=file, stderr=err
        )
    stack.callback(_end, process)
    wait("tcpstates is ready", lambda: tracers[0].is_ready(scratch, scratch / "err"), 120)
    return process, out


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
