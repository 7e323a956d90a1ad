"""The words of --netns, and what a namespace is called."""

import pytest

from sstrace.errors import UsageError
from sstrace.model import Label
from sstrace.query.netns import is_path, parse_netns

ID = "3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("all", ("all",)),
        ("web", ("web",)),
        ("web,4711,4026532177,/run/netns/db,web", ("web", "4711", "4026532177", "/run/netns/db")),
    ],
)
def test_words(value: str, words: tuple[str, ...]) -> None:
    assert parse_netns(value) == words


@pytest.mark.parametrize("value", ["", ",", "web,", ",web", "web,,db", "w\0b"])
def test_no_word_is_empty(value: str) -> None:
    with pytest.raises(UsageError, match="write all, or names, pids, inodes and paths, joined by commas"):
        parse_netns(value)


def test_paths_are_told_from_pods_and_processes() -> None:
    assert all(map(is_path, ("/proc/1/ns/net", "./x", "../x")))
    assert not any(map(is_path, ("shop/web-0", "nginx/4711", "web", ".x")))


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (Label(), "4026532177"),
        (Label(comm="nginx", pid=4711), "nginx/4711"),
        (Label(container_id=ID, container_runtime="docker", comm="nginx", pid=4711), "3726184226f5"),
        (Label(container_id="buster-with-a-long-name", container_runtime="systemd-nspawn"), "buster-with-a-long-name"),
        (Label(container_id=ID, pod="web-0", pod_namespace="shop", comm="pause", pid=2), "shop/web-0"),
        (Label(container_id=ID, pod="ac04f3f2-1f2c-11e9-b015-1ebee232acfa"), "ac04f3f2-1f2c-11e9-b015-1ebee232acfa"),
        (Label(netns_name="blue", container_id=ID, pod="web-0", comm="x", pid=1), "blue"),
    ],
)
def test_a_namespace_is_shown_by_one_name(label: Label, text: str) -> None:
    assert label.text(4026532177) == text
    assert label.bears(4026532177, text)
    assert label.bears(4026532177, "4026532177")


def test_what_a_namespace_answers_to() -> None:
    label = Label(netns_name="blue", container_id=ID, pod="web-0", pod_namespace="shop", comm="nginx", pid=4711)
    for word in ("blue", "web-0", ID, ID[:12], ID[:20], "nginx", "nginx/4711", "17"):
        assert label.bears(17, word), word
    for word in ("blu", "shop", ID[:11], "4711", "None", "", "all"):
        assert not label.bears(17, word), word
    assert Label().names(17) == {"17"}
