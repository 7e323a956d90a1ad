"""``--stats --html`` of what happens now: real connections of a process with a name that means harm."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from conftest import Netns, Program
from tracing import Trace, wait

X = "{http://www.w3.org/1999/xhtml}"
NAME = '</script>"<b>&'
"""15 bytes at most."""
CLIENT = f"""
import socket, pathlib
pathlib.Path("/proc/self/comm").write_text({NAME!r})
server = socket.create_server(("127.0.0.1", 0))
for _ in range(3):
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    client.send(b"hello")
    accepted.recv(5)
    client.close()
    accepted.recv(1)
    accepted.close()
server.close()
client = socket.socket()
try:
    client.connect(("127.0.0.1", 1))
except ConnectionRefusedError:
    client.close()
"""


def cards(root: ET.Element) -> dict[str, list[int]]:
    """The numbers with which a page begins."""
    return {
        "".join(card[0].itertext()): [int(data.get("value", "")) for data in card.iter(f"{X}data")]
        for card in root.iter(f"{X}div")
        if card.find(f"{X}dt") is not None
    }


def test_a_page_of_what_a_server_counted(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Text and page are of one moment; the client writes the file, and the server none."""
    ready, socket = tmp_path / "ready", tmp_path / "live"
    serving = sstrace.start(f"--serve={socket}", "--stats", "--ready-file", str(ready), netns=netns)
    try:
        wait("the server", ready.exists)
        for name, opened in (("quiet", [0, 0, 0]), ("busy", [6, 3, 3])):
            file = tmp_path / f"{name}.html"
            asked = ("--stats", "--from", f"live:{socket}", "--html", str(file))
            done = sstrace(*asked, "--json", netns=netns)
            assert (done.returncode, done.stderr) == (0, b"")
            totals = json.loads(done.stdout.splitlines()[0])
            root = ET.fromstring(file.read_bytes())
            shown = cards(root)
            assert shown["opened"] == opened == [6 * bool(opened[0]), totals["opened_out"], totals["opened_in"]]
            assert shown["transitions"] == [totals["transitions"]]
            times = [time.get("datetime") for time in root.iter(f"{X}time")]
            assert times == [totals["from"], totals["to"]]
            assert sstrace(*asked, netns=netns).stdout.count(b"\0") == 0
            if not opened[0]:
                netns.run(sys.executable, "-c", CLIENT)
        page = tmp_path / "none.html"
        nobody = sstrace("--stats", "--from", f"live:{tmp_path}/nobody", "--html", str(page), netns=netns)
        assert nobody.returncode == 4
        assert not page.exists(), "nothing is left of a page that there was nothing for"
        missing = sstrace("--stats", "--from", f"live:{socket}", "--html", str(tmp_path / "no" / "page"), netns=netns)
        assert missing.returncode == 1
        assert missing.stderr.startswith(b"sstrace: cannot write ")
        assert missing.stdout == b""
    finally:
        serving.terminate()
        serving.communicate(timeout=30)


def test_a_page_of_now(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    with Trace(sstrace, netns, tmp_path, "--stats", "--html", str(file)) as trace:
        netns.run(sys.executable, "-c", CLIENT)
    assert trace.process.returncode == 0, trace.stderr
    totals, *groups = map(json.loads, trace.text)
    assert (totals["opened_out"], totals["opened_in"], totals["failed_out"]) == (3, 3, 1)
    root = ET.fromstring(file.read_bytes())
    shown = cards(root)
    assert shown["opened"] == [6, 3, 3]
    assert shown["failed"][:2] == [1, 1]
    assert shown["closed"] == [totals["closed"]] == [6]
    assert shown["sent"] == shown["received"] == [totals["bytes_sent"]] == [15]
    assert NAME in {line["key"] for line in groups if line.get("by") == "owner"}
    owners = root.find(".//*[@id='owner']")
    assert owners is not None
    assert NAME in {"".join(name.itertext()) for name in owners.iter(f"{X}th")}
    assert not list(root.iter(f"{X}script"))
    assert not list(root.iter(f"{X}b"))
