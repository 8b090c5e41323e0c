"""The provenance of runs as SQL views. Nothing is downloaded for it, and no more is read than a question needs."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from jobs import manifest, rundir
from jobs.query.files import PartFiles
from jobs.query.places import find_runs
from jobs.query.views import (
    NO_MANIFEST,
    NO_PHOTOGRAPHS,
    RUNS,
    UNNESTED,
    VIEWS,
    all_of,
    literal,
    manifest_of,
    photographs_of,
)
from pipeline.errors import SpecError, StoreError
from pipeline.models.licences import commercial_use
from pipeline.provenance import PROVENANCE
from pipeline.provenance.view import Loose, Overlay, Seal, looking, newest_seal, part_uri, read
from pipeline.record import MANIFEST
from pipeline.storage import Store, StoreOptions, is_local, join

# What DuckDB may hold; beyond it, it works on disk.
MEMORY = "2GB"
# How often a question is asked anew where a driver has compacted the run meanwhile.
_TRIES = 3
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # Parts are never written again under their names.
    "validate_external_file_cache": "NO_VALIDATION",
}


@dataclass(frozen=True, slots=True)
class _Opened:
    """A run as it is asked about. seal: its number when the views were made."""

    place: str
    known: Mapping[str, Any]
    index: manifest.Index
    seal: int


class Records:
    """An open question time. Also a context manager; what is left open is closed when Python ends.

    Rows that a later term replaced are never seen: those of parts are left out by number where a loose commit is newer.
    """

    def __init__(self, places: Sequence[str], endpoint: str | None = None, *, memory: str = MEMORY) -> None:
        """Raises JobError where a place holds no run, StoreError where one is damaged or cannot be read."""
        self.runs = find_runs(places, endpoint)
        self._store = Store(StoreOptions(endpoint))
        self._endpoint = endpoint
        self._scratch = tempfile.TemporaryDirectory(prefix="albumen-query-")
        settings = _SETTINGS | {"memory_limit": memory, "temp_directory": self._scratch.name}
        self._duckdb = duckdb.connect(config=settings)
        # Before Python ends, and not while it does: DuckDB's threads may hold files of Python's.
        self._end = weakref.finalize(self, _close, self._duckdb, self._scratch)
        self._duckdb.execute("SET parquet_metadata_cache = true")
        self._files = PartFiles()
        self._duckdb.register_filesystem(self._files)
        self._opened: list[_Opened] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._end()

    @property
    def names(self) -> tuple[str, ...]:
        return VIEWS

    def ask(self, sql: str) -> pa.Table:
        """The answer. Raises SpecError with DuckDB's own words for a question that has none, StoreError for damage."""
        for _ in range(_TRIES):
            try:
                relation = self._duckdb.sql(sql)
                answer: pa.Table = pa.table({}) if relation is None else relation.to_arrow_table()
            except duckdb.Error as error:
                if not self._is_of_parts(error):
                    raise _unanswerable(error) from error
                fault = error
                if not self._has_moved():
                    break
                self._open()
            except OSError as error:
                raise StoreError(f"the provenance cannot be read: {error}") from error
            else:
                return answer
        raise StoreError(f"the provenance is damaged or gone: {str(fault).strip()}") from fault

    def photographs(self, condition: str) -> list[dict[str, Any]]:
        """Whole rows, by item_no, for which an SQL condition holds. Raises as `ask` does."""
        sql = f"SELECT * EXCLUDE run FROM photographs WHERE {condition} ORDER BY item_no"
        rows: list[dict[str, Any]] = self.ask(sql).to_pylist()
        return rows

    def _is_of_parts(self, error: duckdb.Error) -> bool:
        """Whether it is about a file of a run, and not about the question."""
        text = str(error)
        return any(mark in text for mark in ("albumen://", "/provenance/parts/", "/manifest/part-"))

    def _has_moved(self) -> bool:
        return any(newest_seal(self._store, run.place).number != run.seal for run in self._opened)

    def _open(self) -> None:
        self._keep(NO_PHOTOGRAPHS, PROVENANCE.empty_table())
        self._keep(NO_MANIFEST, MANIFEST.empty_table())
        self._opened = [self._open_one(number, place) for number, place in enumerate(self.runs)]
        for name, texts in (
            ("photographs", [photographs_of(number, run.place) for number, run in enumerate(self._opened)]),
            ("manifest", [manifest_of(number, run.place) for number, run in enumerate(self._opened)]),
        ):
            self._duckdb.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {all_of(texts)}")
        self._keep("runs", pa.Table.from_pylist([_facts(run) for run in self._opened], RUNS))
        for name, text in UNNESTED.items():
            self._duckdb.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {text}")

    def _open_one(self, number: int, place: str) -> _Opened:
        known = rundir.load(place, self._endpoint)
        try:
            index = manifest.sound_index(self._store, place)
            seal = looking(self._store, place, lambda seal, loose: self._show(number, place, seal, loose))
        except OSError as error:
            raise StoreError(f"{place} cannot be read: {error}") from error
        names = [self._named(join(place, "manifest", part["name"])) for part in index.parts]
        self._show_files(f"listed_{number}", names, NO_MANIFEST)
        return _Opened(place, known, index, seal.number)

    def _show(self, number: int, place: str, seal: Seal, commits: list[Loose]) -> Seal:
        """`loose_N`, `replaced_N`, `parts_N` of one run. Raises FileNotFoundError where they were compacted meanwhile."""
        overlay = Overlay(read(self._store, [commit.uri for commit in commits], None))
        names = [self._named(part_uri(place, part)) for part in seal.parts]
        self._show_files(f"parts_{number}", names, NO_PHOTOGRAPHS)
        self._keep(f"loose_{number}", overlay.rows)
        replaced = overlay.rows.slice(0, 0)
        if overlay.rows.num_rows and names:
            try:
                # Statistics leave out all row groups but those that may hold such numbers.
                met = self._duckdb.sql(
                    f"SELECT item_no, term FROM parts_{number} SEMI JOIN loose_{number} USING (item_no)"
                ).to_arrow_table()
            except duckdb.IOException as error:
                raise FileNotFoundError(str(error)) from error
            replaced = overlay.replaced(met)
            self._keep(f"loose_{number}", overlay.rest())
        self._keep(f"replaced_{number}", replaced.select(["item_no"]))
        return seal

    def _named(self, uri: str) -> str:
        """How DuckDB is to name a file: folders it reads itself, unless it would take a sign of their names for a pattern."""
        plain = is_local(uri) and not set(uri) & set("*?[]{}")
        return uri.removeprefix("file://") if plain else self._files.add(self._store, uri)

    def _keep(self, name: str, table: pa.Table) -> None:
        """A small table, held by DuckDB: Arrow's would be read by threads that outlive the question."""
        reader = table.to_reader()
        self._duckdb.register("incoming", reader)
        self._duckdb.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM incoming")
        self._duckdb.unregister("incoming")

    def _show_files(self, name: str, files: Sequence[str], empty: str) -> None:
        """A view of Parquet files, of whichever version each is. empty: the table that stands for no file at all."""
        try:
            sources = [f"read_parquet({paths}, hive_partitioning = false)" for paths in self._alike(files)]
            text = all_of([f"SELECT * FROM {source}" for source in sources or [empty]])
            self._duckdb.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {text}")
        except duckdb.IOException as error:
            raise FileNotFoundError(str(error)) from error
        except duckdb.Error as error:
            raise StoreError(f"the run's record is damaged: {str(error).splitlines()[0]}") from error

    def _alike(self, files: Sequence[str]) -> list[str]:
        """Lists of files with the same columns, as literals. DuckDB's own union by name compares all of them for each question;
        here their footers are compared once."""
        if len(files) < 2:
            return [_listed(files)] if files else []
        shapes: dict[str, list[tuple[object, ...]]] = {}
        sql = f"SELECT file_name, name, type, num_children, logical_type FROM parquet_schema({_listed(files)})"
        for batch in self._duckdb.sql(sql).to_arrow_table().to_batches():
            for file, *column in zip(*(values.to_pylist() for values in batch.columns), strict=True):
                shapes.setdefault(file, []).append(tuple(column))
        groups: dict[tuple[tuple[object, ...], ...], list[str]] = {}
        for file, shape in shapes.items():
            groups.setdefault(tuple(shape), []).append(file)
        return [_listed(group) for group in groups.values()]


def _listed(files: Sequence[str]) -> str:
    return "[" + ", ".join(map(literal, files)) + "]"


def _close(connection: duckdb.DuckDBPyConnection, scratch: tempfile.TemporaryDirectory[str]) -> None:
    connection.close()
    scratch.cleanup()


def _unanswerable(error: duckdb.Error) -> SpecError:
    return SpecError(f"query: {str(error).strip()}", hint=f"Views: {', '.join(VIEWS)}.")


def _facts(run: _Opened) -> dict[str, Any]:
    known, recipe = run.known, run.known["spec"].get("recipe", {})
    return {
        "run": run.place,
        "run_id": known["run_id"],
        "recipe_id": known["recipe_id"],
        "collection": known.get("collection"),
        "source": known["spec"]["collection"]["source"],
        "photographs": run.index.photographs,
        "source_bytes": run.index.known_bytes,
        "stages": list(recipe.get("stages", ())),
        "policy": recipe.get("policy"),
        "models": [
            {name: model.get(name) for name in ("id", "sha256", "licence", "required")}
            | {"commercial_use": str(commercial_use(model["licence"]))}
            for model in known.get("models", ())
        ],
        "software": known.get("software", {}).get("albumen"),
        "packages": json.dumps(known.get("software", {}), sort_keys=True),
        "spec": json.dumps(known["spec"], sort_keys=True),
    }
