"""Recordings of hosts on which everything happens that a recording can tell of, made up at random."""

import random
from typing import Any

import msgspec
from fleets import SECOND, ends, held_by, stamp

__all__ = ["random_host"]

_WAYS = {
    "SYN-SENT": ("ESTAB", "UNCONN"),
    "SYN-RECV": ("ESTAB", "UNCONN"),
    "ESTAB": ("FIN-WAIT-1", "CLOSE-WAIT", "UNCONN"),
    "FIN-WAIT-1": ("FIN-WAIT-2", "UNCONN"),
    "FIN-WAIT-2": ("TIME-WAIT", "UNCONN"),
    "CLOSE-WAIT": ("LAST-ACK",),
    "LAST-ACK": ("UNCONN",),
    "TIME-WAIT": ("UNCONN",),
}
_CAUSES = ("fin-by-us", "fin-by-peer", "reset-received", "refused", "timeout-data")
_COMMS = ("nginx", "postgres", "x'y\"z", "a\tb")


def random_host(host: str, number: int, chance: random.Random, *, events: int = 400, several: bool = False) -> bytes:
    """A recording of some minutes. ``number``: of the host, among those whose ends are each other's; ``several``: of
    two network namespaces.
    """
    return _Host(host, number, chance, several=several).record(events)


class _Host:
    def __init__(self, host: str, number: int, chance: random.Random, *, several: bool) -> None:
        self.host, self.number, self.chance, self.several = host, number, chance, several
        self.boot_s = 100 * number + 7
        self.at_s = chance.random() * 20
        self.seq = 0
        self.next_id = 1
        self.rows: dict[int, dict[str, Any]] = {}
        self.out: list[dict[str, Any]] = []

    def record(self, events: int) -> bytes:
        self.out.append({
            "type": "meta", "schema": "sstrace/1", "version": "0", **self._time(), "host": self.host, "kernel": "6",
            "boot_id": f"boot of {self.host}", "netns": 1, "ephemeral": [40000, 50000],
            "interfaces": {"lo": 1, f"eth{self.number}": 9}, **({"several": True} if self.several else {}),
        })  # fmt: skip
        if self.several:
            for netns in (1, 2):
                self._netns(netns, "here", repeats=False)
        for port in (22, 5432):
            self._listen(port)
        self.at_s += 0.5
        for _ in range(events):
            self.at_s += self.chance.expovariate(2.0)
            self._event()
        self.out.append({"type": "mark", **self._time(), "seq": self.seq})
        return b"".join(msgspec.json.encode(line) + b"\n" for line in self.out)

    def _time(self, back_s: float = 0) -> dict[str, Any]:
        at_s = self.at_s - back_s
        return {"ts": stamp(at_s), "mono_ns": round((at_s + self.boot_s) * SECOND)}

    def _line(self, kind: str, number: int, row: dict[str, Any], *, repeats: bool = False, **more: Any) -> None:
        if not repeats:
            self.seq += 1
        kept = {key: value for key, value in row.items() if key != "state" or kind != "state"}
        if "old" in more:
            more["from"] = more.pop("old")
        self.out.append({"type": kind, **self._time(), "seq": self.seq, "id": number, **kept, **more})

    def _netns(self, netns: int, event: str, *, repeats: bool) -> None:
        if not repeats:
            self.seq += 1
        name = {} if netns == 1 else {"netns_name": f"web{self.number}"}
        self.out.append({
            "type": "netns", **self._time(), "seq": self.seq, "event": event, "netns": netns, "netns_cookie": netns,
            **name,
        })  # fmt: skip

    def _row(self, state: str, both: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        chance = self.chance
        row: dict[str, Any] = {
            "netid": "tcp", "family": "inet", "state": state, **both,
            "netns": chance.choice((1, 2)) if self.several else 1,
        }  # fmt: skip
        if chance.random() < 0.6:
            row |= held_by(chance.choice(_COMMS), chance.randrange(2, 90), chance.randrange(1, 1 << 33))
        if chance.random() < 0.2:
            row |= {"ifindex": 9, "ifname": f"eth{self.number}" if chance.random() < 0.7 else "renamed"}
        if chance.random() < 0.4:
            row["cgroup"] = chance.choice(("/system.slice/nginx.service", "/"))
        if chance.random() < 0.7:
            row["role"] = chance.choice(("client", "server"))
        if chance.random() < 0.1:
            mapped = {key: f"::ffff:{row[key]}" for key in ("src", "dst")}
            row |= {"family": "inet6", **mapped}
        number, self.next_id = self.next_id, self.next_id + 1
        self.rows[number] = row
        return number, row

    def _listen(self, port: int) -> None:
        number, row = self._row("LISTEN", ends("0.0.0.0", port, "0.0.0.0", 0))
        self._line("seen", number, row)

    def _event(self) -> None:
        chance = self.chance
        kind = chance.choices(
            ("open", "move", "late", "checkpoint", "gap", "seen", "dropped", "retransmit", "mark"),
            (30, 60, 3, 2, 1, 4, 1, 3, 2),
        )[0]
        alive = [number for number, row in self.rows.items() if row["state"] in _WAYS]
        if kind == "open" or (kind in ("move", "seen", "retransmit") and not alive):
            other = chance.choice([one for one in range(4) if one != self.number])
            state = chance.choice(("SYN-SENT", "SYN-RECV"))
            mine, theirs = f"10.0.0.{self.number}", f"10.0.0.{other}"
            both = ends(mine, 40000 + chance.randrange(9), theirs, 5432)
            if state == "SYN-RECV":
                both = ends(mine, 5432, theirs, 40000 + chance.randrange(9))
            number, row = self._row(state, both)
            self._line("state", number, row, old="UNCONN" if state == "SYN-SENT" else "LISTEN", to=state)
        elif kind == "move":
            number = chance.choice(alive)
            row = self.rows[number]
            old, new = row["state"], chance.choice(_WAYS[row["state"]])
            more: dict[str, Any] = {"held_us": chance.randrange(1, 10**7) / 1000} if chance.random() < 0.8 else {}
            if new == "UNCONN":
                more |= {"cause": chance.choice(_CAUSES), "bytes_sent": 5, "rtt_us": 90}
                if old != "TIME-WAIT":
                    more |= {"ended": True, "lifetime_us": chance.randrange(1, 10**8) / 1000}
            elif chance.random() < 0.3:
                more["retransmits"] = chance.randrange(1, 4)
            row["state"] = new
            self._line("state", number, row, old=old, to=new, **more)
            if new == "UNCONN":
                del self.rows[number]
        elif kind == "late":  # a listener whose port is known only later
            number, row = self._row("LISTEN", ends("0.0.0.0", 0, "0.0.0.0", 0))
            self._line("state", number, row, old="UNCONN", to="LISTEN")
            self.at_s += 0.05
            self._event_of_another()
            row["sport"] = 8000 + number % 1000
            self._line("seen", number, row)
        elif kind == "checkpoint":
            places = {"places": 2} if self.several else {}
            self.out.append({
                "type": "checkpoint", **self._time(), "seq": self.seq, "rows": len(self.rows), **places,
                **({"unwritten": 3} if chance.random() < 0.2 else {}),
            })  # fmt: skip
            for netns in (1, 2) if self.several else ():
                self._netns(netns, "here", repeats=True)
            for number, row in self.rows.items():
                self._line("seen", number, row, repeats=True)
        elif kind == "gap":
            self.seq += 1
            mono_ns = self._time()["mono_ns"]
            self.out.append({
                "type": "gap", **self._time(), "seq": self.seq, "cpu": 0, "count": 2,
                "after_ns": mono_ns - 2 * SECOND, "before_ns": mono_ns,
            })  # fmt: skip
            self.at_s += 0.4
            lost = chance.sample(alive, min(2, len(alive)))
            self.seq += 1
            self.out.append({
                "type": "resync", **self._time(), "seq": self.seq, "added": 0, "removed": len(lost), "changed": 0,
            })  # fmt: skip
            for number in lost:
                row = self.rows.pop(number)
                self.seq += 1
                self.out.append({"type": "gone", **self._time(), "seq": self.seq, "id": number, "state": row["state"]})
        elif kind == "seen":
            number = chance.choice(alive)
            self.rows[number] |= held_by(chance.choice(_COMMS), 99, number + 10**6)
            self._line("seen", number, self.rows[number])
        elif kind == "dropped":
            self.seq += 1
            self.out.append({
                "type": "dropped", **self._time(), "seq": self.seq, "count": 1, "first_seq": self.seq,
                "reason": "disk-full",
            })  # fmt: skip
        elif kind == "retransmit":
            number = chance.choice(alive)
            self._line("retransmit", number, self.rows[number], segment="data", by="timer")
        else:
            self.out.append({"type": "mark", **self._time(), "seq": self.seq})

    def _event_of_another(self) -> None:
        if self.chance.random() < 0.5:
            self._event()
