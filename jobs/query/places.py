"""Which runs a question is about: runs by name, or all that lie below a folder or prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.errors import JobError, StoreError
from pipeline.storage import Store, StoreOptions, canonical, join

# Runs are looked for this many folders below the one that is named.
_DEPTH = 4
_MARK = "run.json"


def find_runs(places: Sequence[str], endpoint: str | None = None) -> list[str]:
    """Runs, each once, in the order in which they are named or listed. Raises JobError with every place that holds none."""
    store = Store(StoreOptions(endpoint))
    found: list[str] = []
    faults: list[str] = []
    for place in dict.fromkeys(map(canonical, places)):
        try:
            here = [place] if store.has(join(place, _MARK)) else list(_below(store, place))
        except OSError as error:
            raise StoreError(f"{place} cannot be read: {error}") from error
        if not here:
            faults.append(f"{place} is no run of Albumen: there is no run.json in it or below it")
        found += here
    if faults:
        raise JobError(faults)
    return list(dict.fromkeys(found))


def _below(store: Store, root: str) -> Iterator[str]:
    """One listing, that leaps over what lies inside a run: its images are many, and no run is among them."""
    looked: set[str] = set()
    after: str | None = None
    leap = True
    while leap:
        leap = False
        for entry in store.list_if_there(root, after):
            run = _run_around(store, root, entry.key, looked)
            if run is not None:
                yield join(root, run)
                # What lies in it starts with "run/"; zero is the sign behind the slash.
                after, leap = run + "0", True
                break


def _run_around(store: Store, root: str, key: str, looked: set[str]) -> str | None:
    """The outermost folder around a key, below the root, that holds a run."""
    folders = key.split("/")[:-1][:_DEPTH]
    for depth in range(1, len(folders) + 1):
        folder = "/".join(folders[:depth])
        if folder not in looked:
            looked.add(folder)
            if store.has(join(root, folder, _MARK)):
                return folder
    return None
