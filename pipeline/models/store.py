"""Where model files are: a cache folder, packages, and mirrors. Nothing is loaded before its SHA-256 is right."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.models.catalogue import CARDS, ModelCard, by_id
from pipeline.storage import Store, StoreOptions, is_local, join, local_path, os_errors

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 20

Progress = Callable[[int, int], None]


def default_cache() -> Path:
    """$ALBUMEN_MODELS, else the XDG cache folder."""
    if chosen := os.environ.get("ALBUMEN_MODELS"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "albumen" / "models"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """How a process finds models; small enough to travel to every actor.

    mirror: folder or URI that holds the files under their published names; asked only for what the cache lacks.
    local: cards of the job's own models, whose `url` says where the file is.
    accepted: licences that the job accepts by name, for the models that may not be used otherwise.
    planned: ids that the run was planned with; None outside a run. Whether an optional model is used is decided once, by
    the plan, and not again by every node's cache.
    """

    cache: str
    mirror: str | None = None
    options: StoreOptions = field(default_factory=StoreOptions)
    local: tuple[ModelCard, ...] = ()
    accepted: frozenset[str] = frozenset()
    planned: frozenset[str] | None = None


class ModelStore:
    """Finds, fetches, verifies and reads model files."""

    def __init__(self, source: ModelSource | None = None) -> None:
        self.source = source or ModelSource(cache=str(default_cache()))
        self.cards = by_id((*CARDS, *self.source.local))

    def card(self, model_id: str) -> ModelCard:
        """Raises ModelError for an id that the catalogue does not have."""
        try:
            return self.cards[model_id]
        except KeyError:
            known = ", ".join(sorted(self.cards))
            raise ModelError(
                f"there is no model {model_id!r} in the catalogue", hint=f"known models: {known}"
            ) from None

    def path(self, model_id: str) -> Path:
        """Where the file is, or would be."""
        card = self.card(model_id)
        if card.package is not None:
            spec = find_spec(card.package)
            if spec is None or not spec.submodule_search_locations:
                raise ModelError(f"model {model_id}: the package {card.package} is not installed")
            return Path(spec.submodule_search_locations[0]) / card.file
        if card in self.source.local and card.url is not None and is_local(card.url):
            return local_path(card.url)
        return Path(self.source.cache) / card.file

    def weight_bytes(self, model_id: str) -> int:
        """Bytes of an installed model's weights in memory, as 32-bit floats."""
        card = self.card(model_id)
        size = card.bytes if card.bytes is not None else self.path(model_id).stat().st_size
        # A model that comes with a package is kept in 16-bit floats there.
        return size * (2 if card.embedded else 1)

    def installed(self, model_id: str) -> bool:
        return self.path(model_id).is_file()

    def available(self, model_id: str) -> bool:
        """Whether a stage should open an optional model: as planned, or, outside a run, where it can be had."""
        return self.obtainable(model_id) if self.source.planned is None else model_id in self.source.planned

    def obtainable(self, model_id: str) -> bool:
        """Installed, or to be had without asking the public network: from the mirror, or from the job's own file."""
        if self.installed(model_id):
            return True
        origin = self._origin(self.card(model_id), public=False)
        return origin is not None and Store(self.source.options).exists(origin)

    def verify(self, model_id: str) -> Path:
        """The file's path once size and SHA-256 are right. Raises ModelError where they are not."""
        card, path = self.card(model_id), self.path(model_id)
        if not path.is_file():
            raise ModelError(f"model {model_id} is not installed: {path} is missing", hint=self._advice(card))
        found = _digest(path)
        if found != card.sha256:
            raise ModelError(
                f"model {model_id}: {path} is not the published file (sha256 {found}, expected {card.sha256})",
                hint=f"Remove it and fetch it again: albumen models fetch {model_id}",
            )
        return path

    def ensure(self, model_id: str, *, public: bool = False, progress: Progress | None = None) -> Path:
        """A verified file, fetched first where it is missing and a mirror (or, if `public`, its publisher) has it."""
        if not self.installed(model_id) and self._origin(self.card(model_id), public=public) is not None:
            self._fetch(self.card(model_id), public=public, progress=progress)
        return self.verify(model_id)

    def consented(self, card: ModelCard) -> None:
        """Raises ModelError for a model whose licence has to be accepted by name and was not."""
        if card.consent is not None and card.consent not in self.source.accepted:
            raise ModelError(
                f"model {card.id} may be used under the licence {card.consent} only, which the job does not accept",
                hint=f'Who may work under it says so in the job: [models] accept = ["{card.consent}"]',
            )

    def read_bytes(self, model_id: str) -> bytes:
        """The file's content. Raises ModelError unless the very bytes that are returned have the right SHA-256."""
        content = self.ensure(model_id).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.card(model_id).sha256:
            raise ModelError(f"model {model_id}: {self.path(model_id)} changed while it was read (sha256 {found})")
        return content

    def read_weights(self, model_id: str) -> dict[str, Any]:
        """The verified file on the CPU: safetensors, or what torch reads with weights_only=True."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.ensure(model_id)
        try:
            if path.suffix == ".safetensors":
                return dict(load_file(path))
            weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except SafetensorError as error:
            raise ModelError(f"model {model_id}: {path} is no safetensors file: {error}") from error
        except (UnpicklingError, EOFError, LookupError, RuntimeError, ValueError) as error:
            raise ModelError(f"model {model_id}: {path} is no checkpoint that may be loaded: {error}") from error
        return weights

    def _origin(self, card: ModelCard, *, public: bool) -> str | None:
        if card in self.source.local:
            return card.url
        if card.embedded:
            return None
        if self.source.mirror is not None:
            return join(self.source.mirror, card.file)
        return card.url if public else None

    def _advice(self, card: ModelCard) -> str:
        if card.embedded:
            return f"It comes with the package {card.package}: install Albumen's requirements again."
        if card in self.source.local:
            return f"The job's own [[models.local]] says that it is {card.url}."
        if card.url is None:
            return (
                f"It has no address of its own: put {card.file} ({card.bytes or 0:,} bytes) into a folder or bucket and name "
                f"that as [models] mirror, or copy it to {self.source.cache}"
            )
        return (
            f"Get it with: albumen models fetch {card.id}\n"
            f"or, without network: put {card.file} ({card.bytes or 0:,} bytes) into a folder or bucket and name that as "
            f"[models] mirror, or copy it to {self.source.cache}"
        )

    def _fetch(self, card: ModelCard, *, public: bool, progress: Progress | None) -> None:
        origin = self._origin(card, public=public)
        assert origin is not None
        final = self.path(card.id)
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(final.name + ".part")
        with _exclusive(final.parent):
            if final.is_file():
                return
            try:
                _download(Store(self.source.options), origin, part, card.bytes, progress)
            except OSError as error:
                raise ModelError(f"model {card.id}: cannot fetch {origin}: {error}", hint=self._advice(card)) from error
            found = _digest(part)
            if found != card.sha256:
                part.unlink()
                raise ModelError(
                    f"model {card.id}: {origin} is not the published file (sha256 {found}, expected {card.sha256})"
                )
            os.replace(part, final)


def state_dict(weights: object) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, whichever of the usual keys they lie under, without a `module.` prefix."""
    if not isinstance(weights, dict):
        raise ModelError("a checkpoint that holds no table of tensors")
    tensors: dict[str, torch.Tensor] = next(
        (weights[key] for key in ("params_ema", "params", "state_dict") if key in weights), weights
    )
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _download(store: Store, origin: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """Go on where an earlier try stopped. A part that is already too long is started anew."""
    done = part.stat().st_size if part.exists() else 0
    if size is not None and done > size:
        part.unlink()
        done = 0
    if done == size:
        return
    with os_errors(), store.open(origin) as source, part.open("ab") as target:
        if done:
            source.seek(done)
        while chunk := source.read(CHUNK):
            target.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, size or done)
        target.flush()
        os.fsync(target.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One download at a time into a cache on this machine, however many actors want one. Leaves no lock file behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
