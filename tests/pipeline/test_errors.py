from __future__ import annotations

import pickle

import pytest

from pipeline.errors import AlbumenError, ItemError, JobError, ModelError, Reason, SpecError, Status, StoreError


@pytest.mark.parametrize("kind", [JobError, SpecError, ModelError, StoreError])
def test_job_errors_survive_a_pickle(kind: type[JobError]) -> None:
    error = pickle.loads(pickle.dumps(kind(["one", "two"], hint="try this")))  # noqa: S301
    assert type(error) is kind
    assert (error.faults, error.hint) == (("one", "two"), "try this")
    assert str(error) == "2 faults:\n  - one\n  - two\ntry this"


def test_an_item_error_survives_a_pickle() -> None:
    error = pickle.loads(pickle.dumps(ItemError(Reason.TRUNCATED, "too short")))  # noqa: S301
    assert (error.reason, error.detail, str(error)) == (Reason.TRUNCATED, "too short", "truncated: too short")


def test_one_fault_is_one_sentence() -> None:
    assert str(SpecError("no such key")) == "no such key"
    assert isinstance(SpecError("x"), AlbumenError)


def test_failures_and_refusals_are_told_apart() -> None:
    failed = {reason for reason in Reason if reason.status is Status.FAILED}
    assert failed == {
        Reason.STAGE_FAILED,
        Reason.OUT_OF_MEMORY,
        Reason.DIGEST_MISMATCH,
        Reason.DELIVERY_FAILED,
        Reason.WORKER_DIED,
        Reason.DEADLINE_EXCEEDED,
        Reason.DECODER_TIMED_OUT,
    }
    assert all(reason.status is Status.REFUSED for reason in Reason if reason not in failed)
