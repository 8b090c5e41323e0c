from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from pipeline.errors import ItemError, Reason, Status
from pipeline.honesty.proof import proof_of
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph, deepened, pixel_digest
from pipeline.policy import POLICIES, Policy
from pipeline.record import Record
from pipeline.stage import Device, ModelNeed, Outcome, Parameters, Step
from pipeline.supervision import WorkerBrokenError, as_item_error, run_end, run_stage, verify_transit


class NoParameters(Parameters):
    strength: float = 0.5


class Brighter:
    """Adds one to every sample, and fails on photographs whose first sample is 13."""

    name: ClassVar[str] = "brighter"
    version: ClassVar[str] = "3"
    Parameters: ClassVar[type[Parameters]] = NoParameters

    def __init__(self, parameters: Parameters, policy: Policy, error: Exception | None = None) -> None:
        self.parameters = parameters
        self.error = error or ValueError("thirteen")
        self.batches: list[int] = []

    @classmethod
    def needs(cls, parameters: Parameters) -> tuple[ModelNeed, ...]:
        return ()

    def open(self, models: ModelStore, device: Device) -> None:
        """Nothing to load."""

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        self.batches.append(len(photographs))
        if any(photograph.pixels.flat[0] == 13 for photograph in photographs):
            raise self.error
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step:
        return Step(
            replace(photograph, pixels=photograph.pixels + 1),
            models=("realesr-general-x4v3",),
            precision="fp32",
            findings={"added": 1},
        )


class Idle(Brighter):
    """Changes nothing and says so."""

    name: ClassVar[str] = "idle"

    def _one(self, photograph: Photograph) -> Step:
        return Step(photograph, Outcome.SKIPPED, "nothing to do")


class Refusing(Brighter):
    """Refuses photographs one by one, without raising."""

    name: ClassVar[str] = "refusing"

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [ItemError(Reason.TOO_LARGE, "too large") for _ in photographs]


class Corner(Brighter):
    """Changes one pixel in four."""

    name: ClassVar[str] = "corner"

    def _one(self, photograph: Photograph) -> Step:
        pixels = photograph.pixels.copy()
        pixels[::2, ::2, 0] += 1
        return Step(replace(photograph, pixels=pixels))


class Talkative(Brighter):
    """Reports what JSON cannot hold."""

    name: ClassVar[str] = "talkative"

    def _one(self, photograph: Photograph) -> Step:
        return Step(photograph, findings={"mean": np.float32(photograph.pixels.mean())})


class Forgetful(Brighter):
    """Answers for one photograph less than it was given."""

    name: ClassVar[str] = "forgetful"

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs][1:]


class End:
    """Stands for ingest or deliver."""

    name: ClassVar[str] = "end"
    version: ClassVar[str] = "1"


@pytest.fixture
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(ModelSource(cache=str(tmp_path_factory.mktemp("models"))))


def stage(kind: type[Brighter] = Brighter, error: Exception | None = None) -> Brighter:
    return kind(NoParameters(), POLICIES["conservation"], error)


def record(number: int, first: int = 0) -> Record:
    pixels = np.full((4, 6, 3), number, np.uint8)
    pixels[0, 0, 0] = first
    return Record(number, f"item{number}", f"/scans/{number}", photograph=Photograph("i", pixels, Container("PNG")))


def run(models: ModelStore, what: Brighter, *records: Record) -> list[Record]:
    return run_stage(what, what.parameters, records, models, Device("cpu", 1))


def test_an_event_says_what_was_done(models: ModelStore) -> None:
    before = record(1)
    after = run(models, stage(), before)[0]
    assert before.photograph is not None
    assert after.photograph is not None
    event = after.events[0]
    assert (event.stage, event.version, event.outcome, event.device) == ("brighter", "3", "applied", "cpu")
    assert event.input_sha256 == pixel_digest(before.photograph)
    assert event.output_sha256 == pixel_digest(after.photograph)
    assert (event.changed_fraction, event.precision, event.seconds > 0) == (1.0, "fp32", True)
    assert json.loads(event.parameters) == {"strength": 0.5}
    assert json.loads(event.findings) == {"added": 1}
    card = models.card("realesr-general-x4v3")
    assert event.models == ({"id": card.id, "sha256": card.sha256, "licence": card.licence},)


def test_events_make_a_chain_of_digests(models: ModelStore) -> None:
    records = [record(1), record(2)]
    for what in (stage(), stage(Idle), stage(Corner), stage()):
        records = run(models, what, *records)
    for found in records:
        assert len(found.events) == 4
        assert all(a.output_sha256 == b.input_sha256 for a, b in zip(found.events, found.events[1:], strict=False))
        assert found.photograph is not None
        assert found.events[-1].output_sha256 == pixel_digest(found.photograph)
    assert records[0].events[0].input_sha256 != records[1].events[0].input_sha256


def test_a_skip_keeps_digest_and_pixels(models: ModelStore) -> None:
    before = record(1)
    after = run(models, stage(Idle), before)[0]
    event = after.events[0]
    assert (event.outcome, event.reason, event.changed_fraction) == ("skipped", "nothing to do", 0.0)
    assert event.input_sha256 == event.output_sha256
    assert after.photograph is before.photograph
    assert after.status is Status.PENDING


def test_the_changed_fraction_counts_pixels(models: ModelStore) -> None:
    assert run(models, stage(Corner), record(1))[0].events[0].changed_fraction == 0.25


def test_a_stage_that_raises_fails_its_photograph(models: ModelStore) -> None:
    after = run(models, stage(), record(1, 13))[0]
    assert (after.status, after.reason) == (Status.FAILED, "stage-failed")
    assert after.detail == "brighter: ValueError: thirteen"
    assert after.photograph is None
    event = after.events[0]
    assert (event.outcome, event.reason, event.output_sha256) == ("failed", "stage-failed", None)
    assert event.input_sha256 is not None


def test_one_bad_photograph_does_not_spoil_the_batch(models: ModelStore) -> None:
    what = stage()
    records = [record(1), record(2, 13), record(3), record(4)]
    after = run(models, what, *records)
    assert [r.status for r in after] == [Status.PENDING, Status.FAILED, Status.PENDING, Status.PENDING]
    assert [r.item_id for r in after] == ["item1", "item2", "item3", "item4"]
    assert what.batches == [4, 1, 1, 1, 1]
    for given, found in ((records[0], after[0]), (records[3], after[3])):
        assert given.photograph is not None
        assert found.photograph is not None
        assert np.array_equal(found.photograph.pixels, given.photograph.pixels + 1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        cv2.error("OpenCV: Insufficient memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_memory_has_a_reason_of_its_own(models: ModelStore, error: Exception) -> None:
    after = run(models, stage(error=error), record(1, 13))[0]
    assert (after.status, after.reason) == (Status.FAILED, "out-of-memory")
    assert str(after.detail).startswith("brighter: ")


@pytest.mark.parametrize(
    "error", [OSError("disk"), KeyError("k"), AssertionError(), ZeroDivisionError(), TypeError("t"), cv2.error("cv")]
)
def test_any_foreseeable_fault_is_caught(models: ModelStore, error: Exception) -> None:
    after = run(models, stage(error=error), record(1, 13))[0]
    assert after.reason == "stage-failed"
    assert type(error).__name__ in str(after.detail)


@pytest.mark.parametrize("error", [struct.error("s"), zlib.error("z"), EOFError("e"), SyntaxError("broken PNG file")])
def test_faults_of_decoders_are_caught_too(models: ModelStore, error: Exception) -> None:
    assert run(models, stage(error=error), record(1, 13))[0].reason == "stage-failed"


@pytest.mark.parametrize("kind", [Talkative, Forgetful])
def test_a_stage_that_answers_wrongly_fails_its_photographs(models: ModelStore, kind: type[Brighter]) -> None:
    after = run(models, stage(kind), record(1))
    assert [r.reason for r in after] == ["stage-failed"]


def test_a_stop_from_the_keyboard_is_not_swallowed(models: ModelStore) -> None:
    what = stage()
    what.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        run(models, what, record(1, 13))


def test_a_refusal_ends_the_record_with_its_reason(models: ModelStore) -> None:
    after = run(models, stage(Refusing), record(1))[0]
    assert (after.status, after.reason, after.detail) == (Status.REFUSED, "too-large", "too large")
    assert (after.events[0].outcome, after.events[0].reason) == ("refused", "too-large")


def test_ended_records_pass_untouched(models: ModelStore) -> None:
    ended = record(1).ended(ItemError(Reason.TRUNCATED, "too short"))
    done = replace(record(2), status=Status.RESTORED)
    what = stage()
    after = run(models, what, ended, record(3), done)
    assert after[0] is ended
    assert after[2] is done
    assert len(after[1].events) == 1
    assert what.batches == [1]
    assert run(models, what, ended) == [ended]
    assert what.batches == [1]


def test_the_given_records_stay_as_they_were(models: ModelStore) -> None:
    before = record(1)
    assert before.photograph is not None
    copy = before.photograph.pixels.copy()
    run(models, stage(), before)
    assert np.array_equal(before.photograph.pixels, copy)
    assert before.events == ()


def read_in(given: Record) -> Record:
    return replace(given, photograph=record(7).photograph, source_sha256="f" * 64)


def test_reading_links_the_file_with_the_pixels() -> None:
    start = Record(1, "a", "/a")
    after = run_end(End(), NoParameters(), read_in, start)
    assert after.photograph is not None
    assert after.events[0].input_sha256 == "f" * 64
    assert after.events[0].output_sha256 == pixel_digest(after.photograph)
    assert after.events[0].outcome == "applied"


def test_writing_links_the_pixels_with_the_file(models: ModelStore) -> None:
    before = run(models, stage(), record(1))[0]
    after = run_end(End(), NoParameters(), lambda r: replace(r, output_sha256="e" * 64), before)
    assert after.events[1].input_sha256 == before.events[0].output_sha256
    assert after.events[1].output_sha256 == "e" * 64


def test_an_end_that_raises_ends_the_record() -> None:
    def fail(_: Record) -> Record:
        raise ItemError(Reason.SOURCE_MISSING, "gone")

    def crash(_: Record) -> Record:
        raise MemoryError

    missing = run_end(End(), NoParameters(), fail, Record(1, "a", "/a"))
    assert (missing.status, missing.reason, missing.detail) == (Status.REFUSED, "source-missing", "gone")
    assert (missing.events[0].outcome, missing.events[0].reason) == ("refused", "source-missing")
    crashed = run_end(End(), NoParameters(), crash, Record(1, "a", "/a"))
    assert (crashed.status, crashed.reason) == (Status.FAILED, "out-of-memory")


def test_an_end_leaves_ended_records_alone() -> None:
    def never(_: Record) -> Record:
        raise AssertionError("called")

    ended = record(1).ended(ItemError(Reason.TRUNCATED, "too short"))
    assert run_end(End(), NoParameters(), never, ended) is ended


def test_changed_pixels_are_noticed_on_arrival(models: ModelStore) -> None:
    sound = run(models, stage(), record(1))[0]
    assert verify_transit(sound) is sound
    assert sound.photograph is not None
    pixels = sound.photograph.pixels.copy()
    pixels[3, 5, 2] ^= 1
    broken = verify_transit(replace(sound, photograph=replace(sound.photograph, pixels=pixels)))
    assert (broken.status, broken.reason) == (Status.FAILED, "digest-mismatch")


def test_a_changed_proof_of_the_scan_is_noticed_on_arrival(models: ModelStore) -> None:
    fresh = record(1)
    assert fresh.photograph is not None
    proof = proof_of(fresh.photograph)
    [sound] = run(models, stage(), replace(fresh, photograph=replace(fresh.photograph, proof=proof)))
    assert verify_transit(sound) is sound
    assert sound.photograph is not None
    samples = proof.samples.copy()
    samples[1, 2, 0] ^= 1
    changed = replace(sound.photograph, proof=replace(proof, samples=samples))
    broken = verify_transit(replace(sound, photograph=changed))
    assert (broken.status, broken.reason) == (Status.FAILED, "digest-mismatch")
    assert broken.detail is not None
    assert "proof" in broken.detail


def test_an_event_says_how_far_apart_the_colours_are(models: ModelStore) -> None:
    [done] = run(models, stage(), record(100))
    [event] = done.events
    assert event.de00_mean is not None
    assert event.de00_max is not None
    assert 0 < event.de00_mean <= event.de00_max < 1


def test_what_has_no_digest_yet_is_not_checked() -> None:
    fresh = record(1)
    assert verify_transit(fresh) is fresh


def test_an_error_without_words_is_named_by_its_type() -> None:
    errors: list[Any] = [as_item_error(ValueError("  "), "repair"), as_item_error(ValueError("odd"), "repair")]
    assert [error.detail for error in errors] == ["repair: ValueError: ValueError", "repair: ValueError: odd"]


def test_a_broken_card_ends_the_worker_and_not_its_photographs(models: ModelStore) -> None:
    """Such an error stays with the process: whatever came next would be said to have failed."""
    broken = type("AcceleratorError", (RuntimeError,), {})("CUDA error: an illegal memory access was encountered")
    with pytest.raises(WorkerBrokenError, match="illegal memory access"):
        run(models, stage(error=broken), record(1, 13))


class Deeper(Brighter):
    """Answers in 16 bits, and changes one pixel in four."""

    name: ClassVar[str] = "deeper"

    def _one(self, photograph: Photograph) -> Step:
        deep = deepened(photograph)
        deep.pixels[::2, ::2, 0] += 1
        return Step(deep)


def test_more_bits_alone_are_no_change(models: ModelStore) -> None:
    photograph = Photograph("item", np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3), Container("PNG"))
    given = Record(1, "item", "/a.png", photograph=photograph)
    [after] = run_stage(stage(Deeper), NoParameters(), [given], models, Device())
    assert after.events[-1].changed_fraction == 0.25
    assert after.photograph is not None
    assert after.photograph.pixels.dtype == np.uint16


def test_what_an_end_finds_goes_into_its_event() -> None:
    found = run_end(End(), NoParameters(), lambda record: replace(record, findings={"depth": 8}), Record(1, "a", "/a"))
    assert json.loads(found.events[-1].findings) == {"depth": 8}
    assert found.findings == {}
