"""A day of one host as its recorder would have written it: connections of every kind that servers have, with what each
carried and how it came to its end, and the whole table as a checkpoint after every 50,000 events.
"""

import heapq
import random
import time
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["BEGIN_S", "DAY_S", "record_day"]

BEGIN_S = 1_795_132_800
"""2026-11-20, 00:00 UTC."""
DAY_S = 86_400
_BOOT_NS = 5_000 * 10**9
_CHECKPOINT = 50_000
_HELD = 1_000
"""Connections that stay open for hours: pools, sessions."""
_COMMS = ("nginx", "postgres", "java", "envoy", "curl", "python3", "node", "haproxy")
_PORTS = (443, 5432, 6379, 8080, 9092, 80, 3306, 53, 8443, 11211)
_ORDERLY_S = 0.002

Step = tuple[str, str]
_CLIENT: tuple[Step, ...] = (
    ("UNCONN", "SYN-SENT"), ("SYN-SENT", "ESTAB"), ("ESTAB", "FIN-WAIT-1"), ("FIN-WAIT-1", "FIN-WAIT-2"),
    ("FIN-WAIT-2", "TIME-WAIT"), ("TIME-WAIT", "UNCONN"),
)  # fmt: skip
_SERVER: tuple[Step, ...] = (
    ("LISTEN", "SYN-RECV"), ("SYN-RECV", "ESTAB"), ("ESTAB", "CLOSE-WAIT"), ("CLOSE-WAIT", "LAST-ACK"),
    ("LAST-ACK", "UNCONN"),
)  # fmt: skip
_REFUSED: tuple[Step, ...] = (("UNCONN", "SYN-SENT"), ("SYN-SENT", "UNCONN"))
_RESET: tuple[Step, ...] = (*_CLIENT[:2], ("ESTAB", "UNCONN"))


class _Connection:
    def __init__(self, number: int, begin_s: float, chance: random.Random, *, long: bool) -> None:
        kind = 0.9 * chance.random() if long else chance.random()
        self.steps, self.cause, self.role = (
            (_CLIENT, "fin-by-us", "client") if kind < 0.5
            else (_SERVER, "fin-by-peer", "server") if kind < 0.93
            else (_REFUSED, "refused", "client") if kind < 0.96
            else (_RESET, "reset-received", "client") if kind < 0.985
            else (_RESET, "timeout-data", "client")
        )  # fmt: skip
        self.number, self.begin_s, self.step = number, begin_s, 0
        self.lasts_s = chance.expovariate(1 / 200_000) if long else chance.lognormvariate(-1.5, 1.5)
        self.lingers_s = chance.expovariate(1 / 120) if chance.random() < 0.05 else _ORDERLY_S
        """In CLOSE-WAIT: some programs forget to close."""
        which = min(int(chance.paretovariate(0.7)) - 1, 799)
        owner = number % len(_COMMS)
        far, near, service = which + 256, 32768 + number * 7 % 28232, _PORTS[min(which, 9)]
        sport, dport = (near, service) if self.role == "client" else (service, near)
        self.row: dict[str, Any] = {
            "netid": "tcp", "family": "inet", "src": "10.0.0.1", "sport": sport,
            "dst": f"10.0.{far >> 8}.{far & 255}", "dport": dport, "netns": 4026531833,
        }  # fmt: skip
        self.held: dict[str, Any] = {
            "ino": 100_000 + number, "sk": 7_000_000 + number, "uid": 1000 + owner,
            "cgroup": f"/system.slice/{_COMMS[owner]}.service",
            "owners": [{"comm": _COMMS[owner], "pid": 700 + 13 * owner, "fd": 5 + number % 900}],
            "owner_source": "connect", "role": self.role, "unit": f"{_COMMS[owner]}.service",
        }  # fmt: skip
        self.carried = {
            "bytes_sent": int(chance.lognormvariate(7, 2)), "bytes_received": int(chance.lognormvariate(8, 2)),
            "rtt_us": chance.randrange(60, 40_000), "retrans": 0,
        }  # fmt: skip
        self.since_s = begin_s

    @property
    def state(self) -> str:
        return self.steps[self.step - 1][1]

    def line(self, at_s: float) -> dict[str, Any]:
        """The next transition's, but for its times and numbers."""
        old, new = self.steps[self.step]
        self.step += 1
        whole = {**self.row, **({} if old in ("TIME-WAIT",) or new == "SYN-RECV" else self.held), "role": self.role}
        line = {"from": old, "to": new, **whole}
        if self.step > 1:
            line["held_us"] = round((at_s - self.since_s) * 1e6, 3)
        if new in ("UNCONN", "TIME-WAIT") and old != "TIME-WAIT":
            line |= {"cause": self.cause, "ended": True, "lifetime_us": round((at_s - self.begin_s) * 1e6, 3)}
            if self.cause != "refused":
                line |= self.carried
        self.since_s = at_s
        return line

    def next_s(self, at_s: float) -> float | None:
        """When the one behind it happens."""
        if self.step == len(self.steps):
            return None
        old = self.steps[self.step][0]
        after = {"ESTAB": self.lasts_s, "CLOSE-WAIT": self.lingers_s, "TIME-WAIT": 60.0}
        return at_s + after.get(old, self.carried["rtt_us"] / 1e6)


def record_day(path: Path, host: str, events: int, chance: random.Random) -> None:
    """Write a recording of so many transitions, spread over the day; what is open at its end stays so."""
    births = round(events / 5.35)
    alive: dict[int, _Connection] = {}
    waiting: list[tuple[float, int, _Connection | None]] = []
    number = seq = since = 0
    for index in range(_HELD + births):
        at_s = chance.random() if index < _HELD else (index - _HELD) * DAY_S / births + chance.random() * 0.2
        heapq.heappush(waiting, (at_s, index, None))
    encode = msgspec.json.Encoder().encode

    def head(kind: str, at_s: float, repeated: int | None) -> dict[str, Any]:
        ns = round(at_s * 1e9)
        day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(BEGIN_S + ns // 10**9))
        times = {"type": kind, "ts": f"{day}.{ns % 10**9:09d}Z", "mono_ns": _BOOT_NS + ns}
        return times if repeated is None else {**times, "seq": repeated}

    with path.open("wb", buffering=1 << 20) as file:
        first = {
            **head("meta", 0.0, None), "schema": "sstrace/1", "version": "0", "host": host, "kernel": "6.18",
            "boot_id": f"boot of {host}", "netns": 4026531833, "ephemeral": [32768, 60999],
            "interfaces": {"lo": 1, "eth0": 2},
        }  # fmt: skip
        file.write(encode(first) + b"\n")
        while waiting and waiting[0][0] < DAY_S and seq < events:
            at_s, index, one = heapq.heappop(waiting)
            if one is None:
                number += 1
                one = _Connection(number, at_s, chance, long=index < _HELD or index % 500 == 0)
            seq += 1
            file.write(encode({**head("state", at_s, seq), "id": one.number, **one.line(at_s)}) + b"\n")
            alive[one.number] = one
            following = one.next_s(at_s)
            if following is None:
                del alive[one.number]
            else:
                heapq.heappush(waiting, (following, index, one))
            since += 1
            if since >= _CHECKPOINT:
                since = 0
                file.write(encode({**head("checkpoint", at_s, seq), "rows": len(alive)}) + b"\n")
                for row in alive.values():
                    more = {} if row.state in ("SYN-RECV", "TIME-WAIT") else row.held
                    held_us = round((at_s - row.since_s) * 1e6, 3)
                    seen = {**head("seen", at_s, seq), "id": row.number, "state": row.state, **row.row, **more}
                    file.write(encode({**seen, "role": row.role, "held_us": held_us}) + b"\n")
        file.write(encode(head("mark", min(at_s, DAY_S - 1e-6), seq)) + b"\n")
