"""The cache of compiled programs, damaged in every way: the next start compiles once more, and it is whole again."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sstrace.errors import FeatureError
from sstrace.sources.bpf import compile as compiling
from sstrace.sources.bpf.compile import bundle, ready
from sstrace.sources.bpf.load import Loaded
from sstrace.sources.bpf.programs import TRACE, Bundle
from sstrace.sources.perf import PerfBuffers

pytestmark = [pytest.mark.root, pytest.mark.bpf]


@pytest.fixture(scope="module")
def sound() -> Bundle:
    return bundle(TRACE, None)


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The one file of a cache."""
    bundle(TRACE, tmp_path)
    (file,) = tmp_path.iterdir()
    return file


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with each compilation."""
    calls: list[object] = []
    real = compiling._compile_in_child

    def counting(*arguments: Any) -> Bundle:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(compiling, "_compile_in_child", counting)
    return calls


def start(cache: Path) -> None:
    """As a trace does."""
    loaded, perf = ready(TRACE, cache, lambda loaded: PerfBuffers(loaded, None))
    perf.close()
    loaded.close()


def written(file: Path, content: Bundle) -> None:
    """A file that is what it should be, but for what is in it."""
    data = msgspec.msgpack.encode(content)
    file.write_bytes(hashlib.sha256(data).digest() + data)


def test_a_sound_one_is_used(cached: Path, compiled: list[object]) -> None:
    start(cached.parent)
    assert not compiled


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes(cached: Path, compiled: list[object], sound: Bundle, seed: int) -> None:
    dice = random.Random(seed)
    data = bytearray(cached.read_bytes())
    for _ in range(dice.choice((1, 1, 30))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    cached.write_bytes(data[: len(data) if seed % 3 else dice.randrange(len(data))])
    start(cached.parent)
    assert len(compiled) == 1
    start(cached.parent)
    assert len(compiled) == 1, "it has healed"
    stored = compiling._read_cache(cached)
    assert stored is not None
    assert set(stored.programs) == set(sound.programs)


def other_map(of: Bundle) -> Bundle:
    """The ring's map is none: the kernel takes it, the reader does not."""
    maps = [msgspec.structs.replace(one, type=2, max_entries=1) if one.name == "events" else one for one in of.maps]
    return msgspec.structs.replace(of, maps=maps)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: Bundle(programs={}, maps=[]),
        lambda of: msgspec.structs.replace(of, programs={**of.programs, "more": b""}),
        lambda of: msgspec.structs.replace(of, maps=of.maps[:-1]),
        lambda of: msgspec.structs.replace(of, programs=dict.fromkeys(of.programs, b"\0" * 64)),
        lambda of: msgspec.structs.replace(of, programs=dict.fromkeys(of.programs, b"")),
        lambda of: msgspec.structs.replace(of, maps=[msgspec.structs.replace(one, fd=one.fd + 100) for one in of.maps]),
        lambda of: msgspec.structs.replace(of, maps=[msgspec.structs.replace(one, key_size=77) for one in of.maps]),
        other_map,
    ],
    ids=["empty", "more programs", "fewer maps", "no code", "nothing", "foreign maps", "odd maps", "another ring"],
)
def test_whole_but_wrong(
    cached: Path, compiled: list[object], sound: Bundle, change: Callable[[Bundle], Bundle]
) -> None:
    written(cached, change(sound))
    start(cached.parent)
    assert len(compiled) == 1
    start(cached.parent)
    assert len(compiled) == 1, "it has healed"


def test_what_is_refused_afresh_is_compiled_no_third_time(cached: Path, compiled: list[object]) -> None:
    def refuse(_: Loaded) -> None:
        raise FeatureError("no")

    with pytest.raises(FeatureError, match=r"^no$"):
        ready(TRACE, cached.parent, refuse)
    assert len(compiled) == 1
