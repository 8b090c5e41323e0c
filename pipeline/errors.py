"""What can go wrong, as types.

AlbumenError
├── ItemError        this photograph is refused or failed; it becomes its row, and the rest goes on
└── JobError         this run cannot go on; one message that names every fault found
    ├── SpecError    the job's text is wrong: nothing was started, nothing was written
    ├── ModelError   a model is missing, altered, or not allowed here
    └── StoreError   the source, the output or a mirror cannot be listed, read or written
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Status(StrEnum):
    """How a photograph ended. `PENDING` is a row still on its way; it is never committed."""

    PENDING = "pending"
    RESTORED = "restored"
    REFUSED = "refused"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a photograph was not restored."""

    # The source cannot be restored as it is: status `refused`.
    SOURCE_MISSING = "source-missing"
    SOURCE_UNREADABLE = "source-unreadable"
    SOURCE_EMPTY = "source-empty"
    SOURCE_CHANGED = "source-changed"
    NOT_AN_IMAGE = "not-an-image"
    TRUNCATED = "truncated"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported"
    DUPLICATE = "duplicate"
    OUTSIDE_ROOTS = "outside-roots"
    DECODER_CRASHED = "decoder-crashed"
    # The source may be sound and the work went wrong: status `failed`.
    STAGE_FAILED = "stage-failed"
    OUT_OF_MEMORY = "out-of-memory"
    DIGEST_MISMATCH = "digest-mismatch"
    DELIVERY_FAILED = "delivery-failed"
    WORKER_DIED = "worker-died"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    DECODER_TIMED_OUT = "decoder-timed-out"

    @property
    def status(self) -> Status:
        return Status.FAILED if self in _FAILURES else Status.REFUSED


_FAILURES = frozenset(
    {
        Reason.STAGE_FAILED,
        Reason.OUT_OF_MEMORY,
        Reason.DIGEST_MISMATCH,
        Reason.DELIVERY_FAILED,
        Reason.WORKER_DIED,
        Reason.DEADLINE_EXCEEDED,
        Reason.DECODER_TIMED_OUT,
    }
)


# What may pass by itself: a store that was away, memory that was short, a worker that died for reasons of its own.
RETRYABLE = _FAILURES | {Reason.SOURCE_MISSING, Reason.SOURCE_UNREADABLE}


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Insufficient memory")


def is_out_of_memory(error: BaseException) -> bool:
    """True for what Python, torch, CUDA and OpenCV raise where memory cannot be had."""
    return isinstance(error, MemoryError) or any(mark in str(error) for mark in _OUT_OF_MEMORY)


class AlbumenError(Exception):
    """Every error that Albumen raises on purpose."""


class ItemError(AlbumenError):
    """One photograph is refused or failed.

    reason: the type that queries filter on. detail: one sentence for a person.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class JobError(AlbumenError):
    """The run cannot go on.

    faults: every fault found, each a sentence. hint: what the user can do, where we know it.
    """

    def __init__(self, faults: str | Sequence[str], *, hint: str | None = None) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        self.hint = hint
        super().__init__(self.faults, hint)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            text = self.faults[0]
        else:
            text = f"{len(self.faults)} faults:\n" + "\n".join(f"  - {f}" for f in self.faults)
        return text if self.hint is None else f"{text}\n{self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.faults, self.hint))


def _rebuild(kind: type[JobError], faults: tuple[str, ...], hint: str | None) -> JobError:
    return kind(faults, hint=hint)


class SpecError(JobError):
    """The job spec is wrong."""


class ModelError(JobError):
    """A model is missing, altered, or not allowed here."""


class StoreError(JobError):
    """A store cannot be listed, read or written."""
