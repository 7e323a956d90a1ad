"""The schemas only ever grow within a version: what is released is here, and must still be there."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
            elif required and key not in found.get("required", []):
                broken.append(f"{line}.{key} may be absent now")
    assert not broken, f"a new version of the {name} schema is due: {broken}"
