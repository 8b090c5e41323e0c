"""The lease on a run: one driver at a time, with a term that fences off those before it. docs/run-directory.md says how."""

from __future__ import annotations

import getpass
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from pipeline.errors import JobError, StoreError
from pipeline.provenance.commit import OvertakenError, check_term
from pipeline.provenance.schema import lease_uri
from pipeline.storage import Store, join

# How often a lease that nobody seems to renew is looked at, in seconds.
_LOOK = 0.5
# A holder renews this many times before its lease would run out, so that one lost request costs nothing.
_RENEWALS = 4
# Seconds that a lease may be good for.
_LEAST, _MOST = 1, 86_400


class LeaseHeldError(JobError):
    """Somebody else drives this run."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, told apart from every other one. boot: the machine's boot and the process namespace.
    started: clock ticks since that boot (proc(5), field 22), since process ids come back."""

    user: str
    host: str
    boot: str
    pid: int
    started: int

    @classmethod
    def me(cls) -> Self:
        return cls(_user(), socket.gethostname(), _boot(), os.getpid(), _started(os.getpid()) or 0)

    def is_running(self) -> bool:
        """True where this process is known to be alive and not paused."""
        return self._is_here() and _started(self.pid) == self.started and _state(self.pid) != "T"

    def is_gone(self) -> bool:
        """True where this process is known to have ended, which only its own machine can know."""
        return self._is_here() and _started(self.pid) != self.started

    def _is_here(self) -> bool:
        return self.boot == _boot() and self.host == socket.gethostname()


@dataclass(frozen=True, slots=True)
class Lease:
    """What a lease's file says. seconds: how long it is good without being renewed. Times are UTC."""

    term: int
    holder: Holder
    purpose: str
    taken_at: AwareDatetime
    renewed_at: AwareDatetime
    seconds: Annotated[float, Field(gt=0, le=_MOST)]
    released: bool = False

    @property
    def ends_at(self) -> datetime:
        return self.renewed_at + timedelta(seconds=self.seconds)

    def to_json(self) -> bytes:
        return _LEASES.dump_json(self, indent=1)


_LEASES = TypeAdapter(Lease)


class Held:
    """A lease in our hands. A thread renews it until `close`; `lost` says why it is no longer ours, if so."""

    def __init__(self, store: Store, run: str, lease: Lease) -> None:
        self._store = store
        self._run = run
        self._lease = lease
        self._over = threading.Event()
        self._lost: JobError | None = None
        self._thread = threading.Thread(target=self._renew_until_over, name="albumen-lease", daemon=True)
        self._thread.start()

    @property
    def term(self) -> int:
        return self._lease.term

    @property
    def lost(self) -> JobError | None:
        return self._lost

    def check(self) -> None:
        """Raises OvertakenError or StoreError where the lease is no longer ours."""
        if self._lost is not None:
            raise self._lost

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        if self._lost is None:
            try:
                self._put(replace(self._lease, released=True))
            except OSError:
                # It runs out by itself; nothing that was done depends on its release.
                return

    def _renew_until_over(self) -> None:
        good_until = time.monotonic() + self._lease.seconds
        while not self._over.wait(self._lease.seconds / _RENEWALS):
            try:
                check_term(self._store, self._run, self.term)
                asked = time.monotonic()
                self._put(replace(self._lease, renewed_at=datetime.now(UTC)))
                good_until = asked + self._lease.seconds
            except OvertakenError as error:
                self._lost = error
                return
            except (OSError, StoreError) as error:
                if time.monotonic() > good_until:
                    self._lost = StoreError(
                        f"{self._run}: the lease could not be renewed for {self._lease.seconds:.0f} s: {error}"
                    )
                    return

    def _put(self, lease: Lease) -> None:
        self._store.put(lease_uri(self._run, lease.term), lease.to_json())
        self._lease = lease


@contextmanager
def hold(store: Store, run: str, purpose: str) -> Iterator[Held]:
    """Hold the run's lease. Raises LeaseHeldError where somebody else does, StoreError where the store does not answer."""
    try:
        held = Held(_quick(store), run, _take(store, run, purpose))
    except OSError as error:
        raise StoreError(f"{run}: the run's lease cannot be taken: {error}") from error
    try:
        yield held
    finally:
        held.close()


def _quick(store: Store) -> Store:
    """One that gives up before the lease runs out, so that the holder hears of it in time."""
    patience = store.options.patience
    most = _seconds() / _RENEWALS
    short = replace(patience, answer=min(patience.answer, most), total=min(patience.total, most))
    return Store(replace(store.options, patience=short))


def current(store: Store, run: str) -> Lease | None:
    """The lease with the highest term. Raises OSError, StoreError.

    One that is damaged counts as taken when it was last written, by nobody that is known: its term is never given again.
    """
    found = [e for e in store.list_if_there(join(run, "lease")) if re.fullmatch(r"\d{8}\.json", e.key)]
    if not found:
        return None
    entry = found[-1]
    term, wrong = int(entry.key[:8]), "it names another term"
    try:
        lease = _LEASES.validate_json(store.read(entry.uri))
        if lease.term == term:
            return lease
    except ValidationError as error:
        wrong = error.errors()[0]["msg"]
    if entry.modified is None:
        raise StoreError(f"{entry.uri} is damaged: {wrong}")
    nobody = Holder("somebody", "unknown", "", 0, 0)
    return Lease(term, nobody, "an unknown command", entry.modified, entry.modified, _seconds())


def _take(store: Store, run: str, purpose: str) -> Lease:
    before = current(store, run)
    if before is not None:
        before = _wait_until_free(store, run, before)
    now, seconds = datetime.now(UTC), _seconds()
    lease = Lease(1 if before is None else before.term + 1, Holder.me(), purpose, now, now, seconds)
    if store.create(lease_uri(run, lease.term), lease.to_json()):
        return lease
    raise _held(run, current(store, run) or lease)


def _wait_until_free(store: Store, run: str, lease: Lease) -> Lease:
    """The lease, once it is released or has run out. Whoever renews it meanwhile is alive: LeaseHeldError.

    A holder's clock may be behind ours: a lease that seems to have run out long ago is watched for two renewals as well.
    """
    if not lease.released and lease.holder.is_running() and datetime.now(UTC) < lease.ends_at:
        raise _held(run, lease)
    until = max(lease.ends_at, datetime.now(UTC) + timedelta(seconds=2 * lease.seconds / _RENEWALS))
    while not (lease.released or lease.holder.is_gone() or datetime.now(UTC) > until):
        time.sleep(_LOOK)
        again = current(store, run)
        if again is None:
            raise StoreError(f"{run}: the lease that was there is gone")
        if again.term != lease.term or (again.renewed_at != lease.renewed_at and not again.released):
            raise _held(run, again)
        lease = again
    return lease


def _seconds() -> float:
    text = os.environ.get("ALBUMEN_LEASE_SECONDS", "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _LEAST <= seconds <= _MOST:
        raise JobError(f"ALBUMEN_LEASE_SECONDS is {text!r}; it has to be a number of seconds from {_LEAST} to {_MOST}")
    return seconds


def _held(run: str, lease: Lease) -> LeaseHeldError:
    who, ends = lease.holder, f"{lease.ends_at:%Y-%m-%d %H:%M:%S} UTC"
    return LeaseHeldError(
        f"{run}: `{lease.purpose}` of {who.user}@{who.host} (process {who.pid}) is at work on it since "
        f"{lease.taken_at:%Y-%m-%d %H:%M:%S} UTC, last heard of at {lease.renewed_at:%H:%M:%S}",
        hint=f"Wait for it, or stop it. If it is not heard of again, the run can be taken over after {ends}.",
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's process may have an id without a name.
        return str(os.getuid())


def _boot() -> str:
    """Two containers on one machine share its boot, and not the numbers of their processes."""
    namespace = Path("/proc/self/ns/pid")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}:{namespace.stat().st_ino}"


def _started(pid: int) -> int | None:
    fields = _fields(pid)
    # A zombie has ended; it only waits for its parent to hear of it.
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def _state(pid: int) -> str | None:
    fields = _fields(pid)
    return None if fields is None else fields[0]


def _fields(pid: int) -> list[str] | None:
    """Of proc(5)'s stat, from the third on: the name in the second may hold spaces and parentheses."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return facts.rpartition(")")[2].split()
