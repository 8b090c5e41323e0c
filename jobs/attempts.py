"""Photographs in whose hands workers died: how often, of what, and when it is enough. Kept beside the run, so that a
photograph that takes the driver along as well is not met unprepared again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline.errors import ItemError, Reason, StoreError
from pipeline.provenance.schema import numbered
from pipeline.storage import Store, join
from pipeline.tally import Death

# A photograph is tried once with the others and twice alone; then it is taken to be what kills its worker.
_TRIES = 3
_SHORT_OF_MEMORY = ("OutOfMemory", "running low on memory", "OOM")


class Attempts:
    """Counts by item id. Those of earlier terms count on, unless `anew`: then what was given up is tried as often again."""

    def __init__(self, store: Store, run: str, term: int, *, anew: bool = False) -> None:
        self._store = store
        self._folder = join(run, "attempts")
        self._uri = join(self._folder, numbered(term) + ".json")
        self._counts: dict[str, int] = {}
        self._causes: dict[str, tuple[Reason, str]] = {}
        self._saved = 0
        for entry in [entry for entry in store.list_if_there(self._folder) if entry.key.endswith(".json")]:
            try:
                self._counts |= json.loads(store.read(entry.uri))
            except ValueError as error:
                raise StoreError(f"{entry.uri} is damaged: {error}", hint="Delete it: it only counts tries.") from error
        if anew:
            self._counts = {item: 0 if count >= _TRIES else count for item, count in self._counts.items()}

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def knows(self, item_id: str) -> bool:
        """True where a worker has died of it before: it is better met alone."""
        return item_id in self._counts

    def count(self, item_id: str) -> int:
        return self._counts.get(item_id, 0)

    def add(self, item_id: str, death: Death | None, said: Sequence[str]) -> None:
        """One more loss. death: of the worker that had it in hand. said: Ray's words about the losses of that pass."""
        self._counts[item_id] = self.count(item_id) + 1
        self._causes[item_id] = _cause(death, said)

    def save(self) -> None:
        """Raises OSError."""
        if self._counts and self._saved != self.total:
            self._store.put(self._uri, json.dumps(self._counts, indent=0, sort_keys=True).encode())
            self._saved = self.total

    def is_over(self, item_id: str) -> bool:
        return self.count(item_id) >= _TRIES

    def verdict(self, item_id: str) -> ItemError:
        reason, detail = self._causes.get(item_id, (Reason.WORKER_DIED, "an earlier driver saw its workers die"))
        return ItemError(reason, f"no worker survived this photograph in {self.count(item_id)} tries; {detail}")


def _cause(death: Death | None, said: Sequence[str]) -> tuple[Reason, str]:
    if death is None:
        return Reason.WORKER_DIED, "the last one ended on its way to a stage" + _heard(said)
    stage = death.hand.stage or "its pool"
    if death.hung:
        return Reason.DEADLINE_EXCEEDED, f"{stage} did not end within its deadline of {death.hand.deadline:.0f} s"
    own = [text for text in said if death.hand.worker in text]
    short = any(mark in text for text in own for mark in _SHORT_OF_MEMORY)
    reason = Reason.OUT_OF_MEMORY if short else Reason.WORKER_DIED
    return reason, f"the last one ended in {stage}" + _heard(own or said)


def _heard(words: Sequence[str]) -> str:
    return f"; Ray said: {' | '.join(words)}" if words else ""
