"""The dashboard asks for metrics that there are, in panels that do not overlap."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from conftest import unmet

ROOT = Path(__file__).resolve().parents[2]
BOARD = json.loads((ROOT / "dashboards" / "grafana.json").read_text())
KNOWN = set(re.findall(r"^\| `(sstrace_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))


def test_it_asks_for_what_is_documented() -> None:
    asked = set()
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            asked |= set(re.findall(r"\bsstrace_\w+", target["expr"]))
            assert target["expr"].count("(") == target["expr"].count(")")
    assert {name.removesuffix("_bucket") for name in asked} <= KNOWN
    assert len(asked) > 10


def test_prometheus_takes_its_questions(tmp_path: Path) -> None:
    """As rules, because promtool reads those, with a value for each of Grafana's variables."""
    promtool = shutil.which("promtool")
    if promtool is None:
        unmet("needs promtool (package prometheus)")
    asked = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])]
    for variable, value in (("$__rate_interval", "5m"), ("$__range", "1h"), ("$instance", ".*"), ("$job", "sstrace")):
        asked = [text.replace(variable, value) for text in asked]
    assert not [text for text in asked if "$" in text]
    rules = [{"record": f"asked:{number}", "expr": text} for number, text in enumerate(asked)]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(asked)} rules found" in done.stdout


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
