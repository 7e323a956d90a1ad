"""The schemas only ever grow within a version: what is released is here, and must still be there."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LATER = {
    "ecs": {"Address.ip", "Network.type"},
    "snapshot": {
        f"{line}.{key}" for line in ("NetlinkLine", "PacketLine", "UnixLine", "XdpLine") for key in ("recv_q", "send_q")
    },
}
"""Keys that only lines lack of sockets that the version did not tell of: those outside of the internet's families in a
trace, and out of a recording. Whoever asks for none of them meets none.
"""
RELEASED = json.loads((ROOT / "tests" / "data" / "schemas-1.json").read_text())


def kind_of(field: dict[str, Any]) -> str | None:
    """A word out of a list is a string."""
    words = "string" if all(isinstance(one, str) for one in field.get("enum", [None])) else None
    return field.get("type", words)


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_no_key_has_gone_or_changed_its_type(name: str) -> None:
    now = json.loads((ROOT / "sstrace" / "schemas" / f"{name}.json").read_text())["$defs"]
    broken = []
    for line, fields in RELEASED[name].items():
        found = now.get(line)
        if found is None:
            broken.append(f"{line} is gone")
            continue
        for key, (kind, required) in fields.items():
            field = found["properties"].get(key)
            if field is None:
                broken.append(f"{line}.{key} is gone")
            elif kind not in (field.get("type", field.get("$ref")), kind_of(field)):
                broken.append(f"{line}.{key} was {kind}")
            elif required and key not in found.get("required", []) and f"{line}.{key}" not in LATER.get(name, ()):
                broken.append(f"{line}.{key} may be absent now")
    assert not broken, f"a new version of the {name} schema is due: {broken}"
