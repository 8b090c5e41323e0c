"""Runs one stage on records and writes its event: time, digests, what changed, and what went wrong. Without Ray."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import cv2

from pipeline.errors import AlbumenError, ItemError, Reason, Status, is_out_of_memory
from pipeline.honesty.difference import changed_fraction, stage_difference
from pipeline.models.store import ModelStore
from pipeline.photograph import Photograph, pixel_digest
from pipeline.record import Event, Record
from pipeline.stage import Device, Outcome, Parameters, Stage, Step

# What a library may raise on one photograph that nobody foresaw. It becomes that photograph's row; the others go on.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    cv2.error,
    struct.error,
    zlib.error,
)


class WorkerBrokenError(AlbumenError):
    """This process can compute nothing more; another one has to try again."""


class Named(Protocol):
    """Any stage, ingest and deliver included."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


def run_end(end: Named, parameters: Parameters, work: Callable[[Record], Record], record: Record) -> Record:
    """Run ingest or deliver on one record. Its event links a file's digest with a pixel digest."""
    if record.status is not Status.PENDING:
        return record
    started = time.perf_counter()
    try:
        done = work(record)
    except ItemError as error:
        done = record.ended(error)
    except FAULTS as error:
        done = record.ended(as_item_error(error, end.name))
    event = _event(end, parameters, time.perf_counter() - started)
    given = _last_digest(record) or done.source_sha256
    if done.status is not Status.PENDING:
        event = replace(event, outcome=str(done.status), reason=done.reason, input_sha256=given)
    else:
        kept = done.output_sha256
        if kept is None and done.photograph is not None:
            kept = pixel_digest(done.photograph)
        event = replace(event, input_sha256=given, output_sha256=kept)
    event = replace(event, findings=_json(dict(done.findings)))
    return replace(done, events=(*done.events, event), findings={})


def run_stage(
    stage: Stage, parameters: Parameters, records: Sequence[Record], models: ModelStore, device: Device
) -> list[Record]:
    """Run one stage on the records that are still on their way; the others pass untouched, in the same order."""
    result = list(records)
    alive = [(i, p) for i, r in enumerate(records) if r.status is Status.PENDING and (p := r.photograph) is not None]
    if not alive:
        return result
    started = time.perf_counter()
    answers = _answers(stage, [photograph for _, photograph in alive])
    event = _event(stage, parameters, (time.perf_counter() - started) / len(alive))
    event = replace(event, device=device.kind)
    for (i, photograph), answer in zip(alive, answers, strict=True):
        given = replace(event, input_sha256=_last_digest(records[i]) or pixel_digest(photograph))
        try:
            result[i] = _finish(records[i], photograph, answer, given, models)
        except FAULTS as error:
            result[i] = _finish(records[i], photograph, as_item_error(error, stage.name), given, models)
    return result


def _finish(record: Record, before: Photograph, answer: Step | ItemError, event: Event, models: ModelStore) -> Record:
    if isinstance(answer, ItemError):
        event = replace(event, outcome=str(answer.reason.status), reason=str(answer.reason))
        return replace(record.ended(answer), events=(*record.events, event))
    after = answer.photograph
    same = after.pixels is before.pixels and after.alpha is before.alpha
    apart = (0.0, 0.0) if after.pixels is before.pixels else stage_difference(before, after) or (None, None)
    event = replace(
        event,
        outcome=str(answer.outcome),
        reason=answer.reason,
        models=tuple(_model(models, model_id) for model_id in answer.models),
        output_sha256=event.input_sha256 if same else pixel_digest(after),
        changed_fraction=0.0 if same else changed_fraction(before, after),
        precision=answer.precision,
        findings=_json(dict(answer.findings)),
        de00_mean=apart[0],
        de00_max=apart[1],
    )
    return replace(record, photograph=after, analysis=after.analysis, faces=after.faces, events=(*record.events, event))


def _answers(stage: Stage, photographs: Sequence[Photograph]) -> list[Step | ItemError]:
    try:
        answers = list(stage.restore(photographs))
        if len(answers) != len(photographs):
            raise ValueError(f"{len(photographs)} photographs went in and {len(answers)} answers came out")
        return answers
    except ItemError as error:
        fault = error
    except FAULTS as error:
        if type(error).__name__ == "AcceleratorError":
            # After such an error (torch 2.8 and later) every call on the card fails, whichever photograph is next.
            raise WorkerBrokenError(str(error)) from error
        fault = as_item_error(error, stage.name)
    if len(photographs) == 1:
        return [fault]
    # One of them is to blame: each alone, and the others lose nothing.
    return [_answers(stage, [photograph])[0] for photograph in photographs]


def verify_transit(record: Record) -> Record:
    """Pixels that came over the wire must be the ones that the last event let go."""
    expected = _last_digest(record)
    if record.status is not Status.PENDING or record.photograph is None or expected is None:
        return record
    found = pixel_digest(record.photograph)
    proof = record.photograph.proof
    if found == expected and (proof is None or proof.is_whole()):
        return record
    detail = f"pixels changed on their way between workers: {expected} left, {found} arrived"
    if found == expected:
        detail = "the proof of the scan changed on its way between workers"
    return record.ended(ItemError(Reason.DIGEST_MISMATCH, detail))


def as_item_error(error: BaseException, stage: str) -> ItemError:
    text = str(error).strip() or type(error).__name__
    if is_out_of_memory(error):
        return ItemError(Reason.OUT_OF_MEMORY, f"{stage}: {text}")
    return ItemError(Reason.STAGE_FAILED, f"{stage}: {type(error).__name__}: {text}")


def _event(stage: Named, parameters: Parameters, seconds: float) -> Event:
    return Event(
        stage=stage.name,
        version=stage.version,
        outcome=str(Outcome.APPLIED),
        reason=None,
        parameters=_json(parameters.model_dump(mode="json")),
        models=(),
        input_sha256=None,
        output_sha256=None,
        changed_fraction=None,
        seconds=seconds,
        device="cpu",
        precision=None,
        findings="{}",
    )


def _last_digest(record: Record) -> str | None:
    return record.events[-1].output_sha256 if record.events else None


def _model(models: ModelStore, model_id: str) -> dict[str, str]:
    card = models.card(model_id)
    return {"id": card.id, "sha256": card.sha256, "licence": card.licence}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
