"""The schemas only ever grow within a version: what is released is here, and must still be there."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RELEASED = json.loads((ROOT / "tests" / "data" / "schemas-1.json").read_text())


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
            elif field.get("type", field.get("$ref")) != kind:
                broken.append(f"{line}.{key} was {kind}")
            elif required and key not in found.get("required", []):
                broken.append(f"{line}.{key} may be absent now")
    assert not broken, f"a new version of the {name} schema is due: {broken}"
