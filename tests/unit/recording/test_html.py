"""``--stats --html``: the page of a recorded run says what --stats says, and hostile names stay text."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from mutations import HOSTILE
from test_one_truth import Run, json_of
from test_one_truth import run as _a_run
from test_past_cli import Captured
from test_past_cli import path as _a_story

from sstrace.causes import CAUSES, has_failed
from sstrace.cli import main
from sstrace.plain import plain
from sstrace.render.times import span_text
from sstrace.render.width import amount

X = "{http://www.w3.org/1999/xhtml}"
S = "{http://www.w3.org/2000/svg}"
Line = dict[str, Any]

run = _a_run
path = _a_story


class Page:
    """A page that was read as XML, which forgives nothing."""

    def __init__(self, file: Path) -> None:
        self.data = file.read_bytes()
        self.root = ET.fromstring(self.data)

    def section(self, name: str) -> ET.Element:
        found = self.root.find(f".//*[@id='{name}']")
        assert found is not None, name
        return found

    def titles(self, within: ET.Element) -> list[str]:
        """What drawings say of their parts."""
        return [title.text or "" for title in within.iter(f"{S}title")]

    def rows(self, table: ET.Element) -> list[list[str]]:
        """Cells, of numbers their values."""
        return [
            [data.get("value", "") if (data := cell.find(f"{X}data")) is not None else "".join(cell.itertext())
             for cell in row]
            for row in table.iter(f"{X}tr")
        ][1:]  # fmt: skip


def page_of(capfdbinary: Captured, file: Path, *words: str) -> tuple[Page, list[Line]]:
    """The page and the lines of NDJSON that one command wrote."""
    lines = json_of(capfdbinary, "--stats", "--json", "--html", str(file), *words)
    return Page(file), lines


def test_every_number_is_one_of_stats(run: Run, tmp_path: Path, capfdbinary: Captured) -> None:
    page, (totals, *lines) = page_of(capfdbinary, tmp_path / "page.html", "--from", run.path, "--count", "99")
    groups = {(line["by"], line["key"]): line for line in lines if line["type"] == "stats_group"}
    # Totals.
    cards = {
        "".join(card[0].itertext()): [int(data.get("value", "")) for data in card.iter(f"{X}data")]
        for card in page.root.iter(f"{X}div")
        if card.find(f"{X}dt") is not None
    }
    opened = totals["opened_out"] + totals["opened_in"]
    assert cards == {
        "opened": [opened, totals["opened_out"], totals["opened_in"]],
        "failed": [totals["failed"], totals["failed_out"], totals["failed_in"]],
        "closed": [totals["closed"]],
        "retransmits": [totals["retransmits"]],
        "sent": [totals["bytes_sent"]],
        "received": [totals["bytes_received"]],
        "transitions": [totals["transitions"]],
        "events lost": [totals["lost"]],
    }
    assert [time.get("datetime") for time in page.root.iter(f"{X}time")] == [totals["from"], totals["to"]]
    # Over time.
    counted: Counter[str] = Counter()
    for title in page.titles(page.section("timeline")):
        for part in title.rsplit(": ", 1)[1].split(", "):
            count, what = part.split(" ")
            counted[what] += int(count)
    causes = {key: line["count"] for (by, key), line in groups.items() if by == "cause"}
    failures = {cause: count for cause, count in causes.items() if has_failed(cause)}
    assert failures
    assert counted == Counter({"opened": opened, "closed": totals["closed"], **failures})
    # Why.
    told = {row[0]: int(row[1]) for row in page.rows(page.section("causes"))}
    assert told == {
        cause + (CAUSES[cause].meaning if cause in CAUSES else ""): count for cause, count in causes.items()
    }
    # How long.
    spreads = {line["of"]: line for line in lines if line["type"] == "stats_spread"}
    assert "lifetime" in spreads
    for of, line in spreads.items():
        ((count, *marks),) = page.rows(page.section(of))
        assert int(count) == line["count"]
        assert [float(mark) for mark in marks] == [
            line[key] for key in ("min_us", "p50_us", "p90_us", "p99_us", "max_us")
        ]
        assert sum(int(title.rsplit(" ", 1)[1]) for title in page.titles(page.section(of))) == line["count"]
    assert {div.get("id") for div in page.section("durations").iter(f"{X}div")} - {None} == spreads.keys()
    # Who.
    for by in ("peer", "port", "owner"):
        tables = list(page.section(by).iter(f"{X}table")) if any(one == by for one, _ in groups) else []
        rows = {row[0]: tuple(map(int, row[1:5])) for row in (page.rows(tables[0]) if tables else [])}
        assert rows == {
            key: (line["opened"], line["failed"], line["closed"], line["retransmits"])
            for (one, key), line in groups.items()
            if one == by
        }
        carried = {row[0]: tuple(map(int, row[1:3])) for row in (page.rows(tables[1]) if tables[1:] else [])}
        assert carried == {
            key: (line["bytes_sent"], line["bytes_received"])
            for (one, key), line in groups.items()
            if one == by and (line["bytes_sent"] or line["bytes_received"])
        }
    # Who with whom.
    sums: Counter[tuple[str, str, str]] = Counter()
    for title in page.titles(page.section("pairs")):
        names, _, numbers = title.rpartition(": ")
        owner, peer = names.rsplit(", ", 1)
        for number in numbers.split(", ")[:3]:
            what, count = number.split(" ")
            sums["owner", owner, what] += int(count)
            sums["peer", peer, what] += int(count)
    assert any(by == "peer" for by, _ in groups)
    for (by, key), line in groups.items():
        if by in ("owner", "peer"):
            assert {what: sums[by, key, what] for what in ("opened", "failed", "closed")} == {
                what: line[what] for what in ("opened", "failed", "closed")
            }


def test_texts_are_those_of_stats(run: Run, tmp_path: Path, capfdbinary: Captured) -> None:
    """What a reader sees of a number is what the text says."""
    file = tmp_path / "page.html"
    assert main(["--stats", "--from", run.path, "--html", str(file), "--time", "utc"]) == 0
    text = capfdbinary.readouterr().out.decode()
    page = Page(file)
    seconds = re.sub(r"T([\d:]+)\.\d+Z", r" \1 UTC", text.splitlines()[0])
    assert " to ".join(time.text or "" for time in page.root.iter(f"{X}time")) == seconds
    lifetime = re.search(r"^lifetime +(.*)$", text, re.MULTILINE)
    assert lifetime
    cells = ["".join(cell.itertext()) for cell in next(page.section("lifetime").iter(f"{X}tbody"))[0]]
    assert cells == lifetime[1].split()
    for data in page.root.iter(f"{X}data"):
        value = data.get("value", "")
        assert data.text in (value, span_text(round(float(value) * 1000)), amount(int(float(value))))


class Reader(HTMLParser):
    """A page as a browser's parser takes it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        self.words += "".join(value or "" for _, value in attrs)

    def handle_data(self, data: str) -> None:
        self.words += data


TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "time", "section", "dl", "div", "dt", "dd",
    "data", "small", "span", "svg", "g", "rect", "path", "table", "thead", "tbody", "tr", "th", "td", "br", "ol", "li",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "xmlns", "charset", "http-equiv", "content", "name", "id", "class", "value", "title", "datetime", "scope",
    "style", "role", "aria-label", "aria-hidden", "viewbox", "preserveaspectratio", "x", "y", "width", "height", "d",
}  # fmt: skip
NAMES = [
    *(value for value in HOSTILE if isinstance(value, str)),
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></title></svg>]]><!--",
    "&lt;b&amp;",
    "\x1b[2J\x00\r\n\u202e\u2028\x85\ufffe",
    "\udcff\udcc3(",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("key", ["owners", "dst", "cause", "cgroup"])
def test_names_are_text(path: str, tmp_path: Path, capfdbinary: Captured, key: str, name: str) -> None:
    lines = [msgspec.json.decode(line) for line in Path(path).read_bytes().splitlines()]
    name = name.encode(errors="backslashreplace").decode()  # JSON takes no surrogates
    for line in lines[1:]:
        if key in line or line["type"] == "state":
            line[key] = [{"comm": name, "pid": 1, "fd": 3}] if key == "owners" else name
    recording, file = tmp_path / "m", tmp_path / "page.html"
    recording.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    code = main(["--stats", "--from", str(recording), "--html", str(file)])
    out, err = capfdbinary.readouterr()
    assert code in (0, 5), err
    if code:
        return
    page, read = Page(file), Reader(file.read_text())
    assert set(read.tags) <= TAGS
    assert read.attributes <= ATTRIBUTES
    assert all(char.isprintable() or char == "\n" for char in page.data.decode())
    if key == "owners" and name and not any(line.startswith("0 transitions") for line in out.decode().splitlines()):
        assert plain(name) in out.decode()
        assert plain(name) in "".join(page.section("owner").itertext()), "the same escapes as in text"
        assert plain(name) in read.words


def test_nothing_happened(path: str, tmp_path: Path, capfdbinary: Captured) -> None:
    """A filter that nothing passes; what is in the file goes."""
    file = tmp_path / "page.html"
    file.write_text("x" * 100_000)
    page, _ = page_of(capfdbinary, file, "--from", path, "dport", "=", ":1")
    assert not list(page.root.iter(f"{X}section"))
    assert {data.get("value") for data in page.root.iter(f"{X}data")} == {"0"}


def test_where_it_cannot_be_written(path: str, tmp_path: Path, capfdbinary: Captured) -> None:
    """Told before anything is read."""
    file = tmp_path / "no" / "page.html"
    assert main(["--stats", "--from", f"{path}.no", "--html", str(file)]) == 1
    assert capfdbinary.readouterr() == (b"", f"sstrace: cannot write {file}: No such file or directory\n".encode())
    assert main(["--stats", "--from", path, "--html", "/dev/full"]) == 1
    assert capfdbinary.readouterr() == (b"", b"sstrace: cannot write /dev/full: No space left on device\n")


def test_what_was_there_stays_where_there_is_nothing_new(path: str, tmp_path: Path, capfdbinary: Captured) -> None:
    file = tmp_path / "page.html"
    file.write_text("of yesterday")
    assert main(["--stats", "--from", f"{path}.no", "--html", str(file)]) == 5
    assert file.read_text() == "of yesterday"
    capfdbinary.readouterr()
