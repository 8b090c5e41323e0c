"""Where the training photographs come from, and that no other file is taken for one of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.errors import JobError
from pipeline.training import photographs
from pipeline.training.photographs import Source, gather, sources

SHIPPED = next(source for source in sources() if source.origin == "installed")


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "sources", lambda: (SHIPPED,))


def test_every_photograph_has_a_licence_a_creator_and_a_digest() -> None:
    table = sources()
    assert len(table) == len({source.name for source in table}) == len({source.sha256 for source in table}) == 59
    for source in table:
        assert source.licence
        assert source.creator
        assert len(bytes.fromhex(source.sha256)) == 32
        assert source.origin in photographs._UNPACK


@pytest.mark.usefixtures("only")
def test_what_is_there_and_right_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gather(tmp_path)
    found = tmp_path / SHIPPED.name
    assert hashlib.sha256(found.read_bytes()).hexdigest() == SHIPPED.sha256
    monkeypatch.setattr(photographs, "_take", lambda *given: pytest.fail("fetched again"))
    gather(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(SHIPPED, sha256="0" * 64), "another file than the one that was trained on"),
        (replace(SHIPPED, path="no/such.jpg"), "holds no no/such.jpg"),
        (replace(SHIPPED, package="no_such_package"), "no_such_package is not installed"),
    ],
)
def test_what_cannot_be_had_is_named_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Source, message: str
) -> None:
    assert find_spec("no_such_package") is None
    monkeypatch.setattr(photographs, "sources", lambda: (other,))
    with pytest.raises(JobError, match=message):
        gather(tmp_path)
    assert list(tmp_path.iterdir()) == []
