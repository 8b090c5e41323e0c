from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models import store as store_module
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelSource, ModelStore, default_cache, state_dict

CardMaker = Callable[..., ModelCard]
EMBEDDED = "realesrgan-x4plus-embedded"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small checkpoint where a publisher would have it."""
    path = tmp_path / "published" / "tiny.pth"
    path.parent.mkdir()
    torch.save({"params_ema": {"weight": torch.arange(50000.0)}}, path)
    return path


def published(card: ModelCard, path: Path) -> ModelCard:
    """The same model as the catalogue would name it: in no list of local models, so fetched into the cache."""
    return replace(card, url=f"file://{path}")


def opened(tmp_path: Path, card: ModelCard, **more: object) -> ModelStore:
    """A store whose catalogue holds `card`."""
    store = ModelStore(ModelSource(cache=str(tmp_path / "cache"), **more))  # type: ignore[arg-type]
    store.cards = {**store.cards, card.id: card}
    return store


def test_a_missing_model_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    store = ModelStore(ModelSource(cache=str(tmp_path)))
    with pytest.raises(ModelError) as caught:
        store.read_weights("gfpgan-v1.4")
    assert str(tmp_path / "GFPGANv1.4.pth") in str(caught.value)
    assert "albumen models fetch gfpgan-v1.4" in str(caught.value)
    assert "348,632,874" in str(caught.value)


def test_an_unknown_model_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model 'gfpgan'") as caught:
        ModelStore(ModelSource(cache=str(tmp_path))).card("gfpgan")
    assert "gfpgan-v1.4" in str(caught.value)


def test_nothing_is_fetched_from_its_publisher_unasked(tmp_path: Path, weights: Path, card_for: CardMaker) -> None:
    store = opened(tmp_path, published(card_for(weights, "test"), weights))
    assert not store.obtainable("mine")
    with pytest.raises(ModelError, match="not installed"):
        store.read_weights("mine")
    assert store.ensure("mine", public=True) == tmp_path / "cache" / "tiny.pth"
    assert store.obtainable("mine")


def test_altered_weights_never_reach_torch(
    tmp_path: Path, weights: Path, card_for: CardMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = card_for(weights, "test")
    altered = bytearray(weights.read_bytes())
    altered[len(altered) // 2] ^= 1
    weights.write_bytes(altered)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", never)
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card,)))
    with pytest.raises(ModelError, match="is not the published file") as caught:
        store.read_weights("mine")
    assert card.sha256 in str(caught.value)
    assert hashlib.sha256(altered).hexdigest() in str(caught.value)


def test_sound_weights_are_read(tmp_path: Path, weights: Path, card_for: CardMaker) -> None:
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card_for(weights, "test"),)))
    found = state_dict(store.read_weights("mine"))
    assert torch.equal(found["weight"], torch.arange(50000.0))


def test_a_local_model_needs_no_size(tmp_path: Path, weights: Path, card_for: CardMaker) -> None:
    card = replace(card_for(weights, "test"), bytes=None)
    store = ModelStore(ModelSource(cache=str(tmp_path / "cache"), local=(card,)))
    assert store.obtainable("mine")
    assert torch.equal(state_dict(store.read_weights("mine"))["weight"], torch.arange(50000.0))


def test_a_local_model_that_is_gone_names_its_path(tmp_path: Path, weights: Path, card_for: CardMaker) -> None:
    card = card_for(weights, "test")
    weights.unlink()
    store = ModelStore(ModelSource(cache=str(tmp_path / "cache"), local=(card,)))
    assert not store.obtainable("mine")
    with pytest.raises(ModelError, match=str(weights)):
        store.read_weights("mine")


@pytest.mark.parametrize("spelling", ["folder", "uri"])
def test_a_mirror_serves_files_under_their_published_names(
    tmp_path: Path, weights: Path, card_for: CardMaker, spelling: str
) -> None:
    mirror = str(weights.parent) if spelling == "folder" else f"file://{weights.parent}"
    card = replace(card_for(weights, "test"), url="https://publisher.invalid/tiny.pth")
    store = opened(tmp_path, card, mirror=mirror)
    assert store.obtainable("mine")
    assert store.ensure("mine").read_bytes() == weights.read_bytes()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["tiny.pth"]


def test_a_mirror_that_lacks_the_file_is_named(tmp_path: Path, weights: Path, card_for: CardMaker) -> None:
    card = card_for(weights, "test")
    (tmp_path / "empty").mkdir()
    store = opened(tmp_path, replace(card, url=None), mirror=str(tmp_path / "empty"))
    assert not store.obtainable("mine")
    with pytest.raises(ModelError, match="cannot fetch") as caught:
        store.ensure("mine")
    assert str(tmp_path / "empty" / "tiny.pth") in str(caught.value)


def test_a_mirror_with_altered_files_is_refused_and_leaves_nothing(
    tmp_path: Path, weights: Path, card_for: CardMaker
) -> None:
    card = card_for(weights, "test")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    store = opened(tmp_path, replace(card, url=None), mirror=str(weights.parent))
    with pytest.raises(ModelError, match="is not the published file"):
        store.ensure("mine")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_download_goes_on(tmp_path: Path, weights: Path, card_for: CardMaker) -> None:
    card = card_for(weights, "test")
    sound = weights.read_bytes()
    half = len(sound) // 2
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tiny.pth.part").write_bytes(sound[:half])
    # The mirror's first half is gone: whoever reads it again gets the wrong file.
    weights.write_bytes(b"\0" * half + sound[half:])
    steps: list[tuple[int, int]] = []
    store = opened(tmp_path, replace(card, url=None), mirror=str(weights.parent))
    path = store.ensure("mine", progress=lambda done, size: steps.append((done, size)))
    assert path.read_bytes() == sound
    assert steps == [(len(sound), len(sound))]
    assert sorted(found.name for found in path.parent.iterdir()) == ["tiny.pth"]


def test_a_part_that_is_too_long_is_started_anew(tmp_path: Path, weights: Path, card_for: CardMaker) -> None:
    card = card_for(weights, "test")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tiny.pth.part").write_bytes(b"x" * (weights.stat().st_size + 1))
    store = opened(tmp_path, replace(card, url=None), mirror=str(weights.parent))
    assert store.ensure("mine").read_bytes() == weights.read_bytes()


def test_progress_is_told(tmp_path: Path, weights: Path, card_for: CardMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK", 100_000)
    card = card_for(weights, "test")
    assert card.bytes is not None
    steps: list[tuple[int, int]] = []
    store = opened(tmp_path, replace(card, url=None), mirror=str(weights.parent))
    store.ensure("mine", progress=lambda done, size: steps.append((done, size)))
    assert steps == [(100_000, card.bytes), (200_000, card.bytes), (card.bytes, card.bytes)]


def test_many_workers_fetch_once(tmp_path: Path, weights: Path, card_for: CardMaker) -> None:
    card = card_for(weights, "test")
    store = opened(tmp_path, replace(card, url=None), mirror=str(weights.parent))
    fetches: list[int] = []
    found: list[Path] = []

    def fetch() -> None:
        found.append(store.ensure("mine", progress=lambda done, _: fetches.append(done)))

    workers = [threading.Thread(target=fetch) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 6
    assert len(fetches) == 1


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path, card_for: CardMaker) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"params": Trap()}, tmp_path / "trap.pth")
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card_for(tmp_path / "trap.pth", "test"),)))
    with pytest.raises(Exception, match="Weights only load failed"):
        store.read_weights("mine")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_checkpoint_is_a_model_error(tmp_path: Path, card_for: CardMaker, content: bytes) -> None:
    (tmp_path / "junk.pth").write_bytes(content)
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card_for(tmp_path / "junk.pth", "test"),)))
    with pytest.raises(ModelError):
        store.read_weights("mine")


def test_the_embedded_model_verifies(tmp_path: Path) -> None:
    store = ModelStore(ModelSource(cache=str(tmp_path / "nowhere")))
    assert store.installed(EMBEDDED)
    assert store.obtainable(EMBEDDED)
    path = store.verify(EMBEDDED)
    assert path.stat().st_size == store.card(EMBEDDED).bytes
    assert path.with_suffix(".param").is_file()
    assert not (tmp_path / "nowhere").exists()


def test_an_embedded_model_without_its_package_says_so(tmp_path: Path) -> None:
    card = replace(ModelStore().card(EMBEDDED), package="no_such_package_here")
    with pytest.raises(ModelError, match="no_such_package_here is not installed"):
        opened(tmp_path, card).verify(EMBEDDED)


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALBUMEN_MODELS", "/models")
    assert default_cache() == Path("/models")
    monkeypatch.delenv("ALBUMEN_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_cache() == Path("/cache/albumen/models")


@pytest.mark.parametrize("key", ["params_ema", "params", "state_dict", None])
def test_tensors_are_found_under_the_usual_keys(key: str | None) -> None:
    tensors = {"module.body.0.weight": torch.ones(1), "tail.bias": torch.zeros(1)}
    found = state_dict(tensors if key is None else {key: tensors, "step": torch.ones(1)})
    assert set(found) == {"body.0.weight", "tail.bias"}


def test_averaged_weights_are_preferred() -> None:
    found = state_dict({"params": {"w": torch.zeros(1)}, "params_ema": {"w": torch.ones(1)}})
    assert found["w"].item() == 1.0


def test_bytes_are_those_that_were_hashed(
    tmp_path: Path, weights: Path, card_for: CardMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card_for(weights, "test"),)))
    assert store.read_bytes("mine") == weights.read_bytes()
    verify = ModelStore.verify

    def then_altered(self: ModelStore, model_id: str) -> Path:
        path = verify(self, model_id)
        path.write_bytes(b"something else")
        return path

    monkeypatch.setattr(ModelStore, "verify", then_altered)
    with pytest.raises(ModelError, match="changed while it was read"):
        store.read_bytes("mine")
