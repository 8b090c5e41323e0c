"""Every hostile file ends as a photograph or as a typed reason, and the decoder's worker lives on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from pipeline.errors import ItemError, Reason
from pipeline.guard import Decoder, Limits, Shared
from pipeline.photograph import Photograph
from tests.hostile.corpus import FOUND, hostile
from tests.hostile.seeds import picture, seeds

LIMIT = 200_000_000
# Reasons that decoding may give. Others would say that the run or the worker was in trouble.
TYPED = {
    *(Reason.NOT_AN_IMAGE, Reason.TRUNCATED, Reason.UNSUPPORTED, Reason.TOO_LARGE),
    *(Reason.DECODER_CRASHED, Reason.DECODER_TIMED_OUT, Reason.OUT_OF_MEMORY),
}
# A file and its answer: however slow the machine, nobody waits longer for one.
MOST_SECONDS = 20.0


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


def answer(decoder: Decoder, data: bytes) -> Photograph | Reason:
    try:
        with Shared(data) as source:
            return decoder.decode(source, "item", LIMIT)
    except ItemError as error:
        return error.reason if error.detail else Reason.STAGE_FAILED


def judge(decoder: Decoder, files: Iterable[tuple[str, bytes]]) -> Counter[str]:
    """What became of the files. Fails where one of them ends as anything but a sound photograph or a typed reason."""
    counts: Counter[str] = Counter()
    for name, data in files:
        found = answer(decoder, data)
        if isinstance(found, Photograph):
            assert found.pixels.dtype in (np.uint8, np.uint16), name
            assert 0 < found.width * found.height <= LIMIT, name
            counts["read"] += 1
        else:
            assert found in TYPED, name
            counts[str(found)] += 1
    return counts


def test_the_corpus_is_large_and_the_same_every_time() -> None:
    first, second = (dict(hostile()) for _ in range(2))
    assert len(first) >= 500
    assert first == second
    assert all(name in first for name in ("bomb/png-unfolds.png", "tiff/nan.tif"))
    assert sum(path.stat().st_size for path in FOUND.glob("*.bin")) <= 200_000


def test_a_part_of_the_corpus_ends_in_photographs_and_reasons(decoder: Decoder) -> None:
    small = [(name, data) for name, data in hostile() if not name.startswith("bomb/") or "14000" not in name]
    quick = [
        (name, data) for name, data in small if "196" not in name and "of-one-pixel" not in name and "lie" not in name
    ]
    counts = judge(decoder, quick[::3])
    assert counts["read"] > 20
    assert counts["truncated"] > 50
    assert not counts[str(Reason.DECODER_CRASHED)]


def test_every_sound_seed_is_read_or_unsupported(decoder: Decoder) -> None:
    counts = judge(decoder, seeds().items())
    assert set(counts) <= {"read", "unsupported"}
    assert counts["read"] >= 35


@pytest.mark.audit
def test_the_whole_corpus_ends_in_photographs_and_reasons_in_time(decoder: Decoder) -> None:
    slowest = (0.0, "")
    counts: Counter[str] = Counter()
    for name, data in hostile():
        # Starting a decoder in place of one that died is not this file's time.
        decoder.open()
        started = time.monotonic()
        counts += judge(decoder, [(name, data)])
        slowest = max(slowest, (time.monotonic() - started, name))
    print(dict(counts), "slowest", slowest)
    assert slowest[0] <= MOST_SECONDS
    assert counts.total() >= 500
    assert np.array_equal(read_sound(decoder), picture())


def read_sound(decoder: Decoder) -> np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]:
    found = answer(decoder, seeds()["tiff-lzw.tif"])
    assert isinstance(found, Photograph)
    return found.pixels


@pytest.mark.audit
def test_a_decoder_with_little_memory_survives_the_whole_corpus() -> None:
    poor = Decoder(Limits(memory=48 << 20, memory_per_pixel=12, seconds=10.0))
    counts = judge(poor, hostile())
    assert counts["read"] > 100
    assert np.array_equal(read_sound(poor), picture())
    poor.close()
