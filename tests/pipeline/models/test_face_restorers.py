from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models import compat
from pipeline.models.catalogue import CARDS, ModelCard
from pipeline.models.face_restorers import FaceRestorer, noise_of, of_codes, open_restorer, shared_gfpgan
from pipeline.models.store import ModelSource, ModelStore
from pipeline.stage import Device
from tests.pipeline.models.references import PUBLISHED, a_reference

CardMaker = Callable[..., ModelCard]
Faces = NDArray[np.float32]


def some_faces(count: int, side: int = 64) -> Faces:
    return np.random.default_rng(3).random((count, side, side, 3), np.float32)


def a_restorer(batch: int) -> FaceRestorer:
    """GFPGAN's small sibling with its noise on, given `batch` faces at once as a device of that kind would be."""
    restorer = shared_gfpgan("small", a_reference(), Device("cpu", 2))
    restorer.batch = batch
    return restorer


def in_reference_range(face: Faces) -> torch.Tensor:
    return torch.from_numpy(face.transpose(2, 0, 1)[None].copy()).sub_(0.5).div_(0.5)


def in_our_range(answer: torch.Tensor) -> Faces:
    unit: Faces = answer[0].clamp(-1, 1).add(1).div(2).numpy().transpose(1, 2, 0)
    return unit


def by_the_reference(network: Any, face: Faces) -> Faces:
    """GFPGAN's own network on one face, its noise seeded with the face's content."""
    torch.manual_seed(int.from_bytes(hashlib.sha256(face.tobytes()).digest()[:8], "little", signed=True))
    with torch.inference_mode():
        return in_our_range(network(in_reference_range(face), return_rgb=False)[0])


@pytest.mark.parametrize("batch", [1, 4])
def test_a_restored_face_is_the_references_with_the_seed_of_its_content(batch: int) -> None:
    reference, restorer, faces = a_reference(), a_restorer(batch), some_faces(3)
    restored = restorer.restore(faces)
    assert (restored.shape, restored.dtype, restored.flags.c_contiguous) == (faces.shape, np.float32, True)
    for face, ours in zip(faces, restored, strict=True):
        assert np.abs(ours - by_the_reference(reference, face)).max() <= 1e-4
    assert restored.std() > 0.05


@pytest.mark.parametrize("batch", [1, 4])
def test_a_face_gives_the_same_bytes_alone_and_among_any_others(batch: int) -> None:
    restorer, faces = a_restorer(batch), some_faces(6)
    together, alone = restorer.restore(faces), restorer.restore(faces[2:3])
    others = restorer.restore(np.stack([faces[5], faces[2], faces[0]]))
    backwards = restorer.restore(np.ascontiguousarray(faces[::-1]))
    assert together[2].tobytes() == alone[0].tobytes() == others[1].tobytes() == backwards[3].tobytes()
    assert together[0].tobytes() != together[1].tobytes()


def test_no_face_is_no_work() -> None:
    assert a_restorer(4).restore(some_faces(0)).shape == (0, 64, 64, 3)


def test_the_reference_gives_one_face_two_faces_and_ours_gives_one() -> None:
    """GFPGANer draws its noise from the process's generator."""
    reference, restorer, face = a_reference(), a_restorer(1), some_faces(1)
    with torch.inference_mode():
        theirs = [reference(in_reference_range(face[0]), return_rgb=False)[0] for _ in range(2)]
    assert not torch.equal(*theirs)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = restorer.restore(face)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert restorer.restore(face).tobytes() == first.tobytes()


def test_the_reference_hands_out_what_it_could_not_restore_and_ours_says_so(face_helper: Callable[[], Any]) -> None:
    def short_of_memory(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    helper = face_helper()
    from gfpgan import GFPGANer

    reference = object.__new__(GFPGANer)
    reference.face_helper, reference.gfpgan, reference.device = helper, short_of_memory, torch.device("cpu")
    face = (some_faces(1, 512)[0] * 255).astype(np.uint8)
    _, theirs, _ = reference.enhance(face, has_aligned=True)
    assert np.array_equal(theirs[0], face)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        FaceRestorer("ours", short_of_memory, Device()).restore(some_faces(1, 512))


def test_noise_is_what_the_reference_draws_layer_by_layer() -> None:
    digest = hashlib.sha256(b"a face").digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    sides = (4, 8, 8, 16, 16)
    expected = [torch.empty(1, 1, side, side).normal_() for side in sides]
    assert all(torch.equal(*pair) for pair in zip(noise_of(digest, sides), expected, strict=True))


def test_fast_is_what_the_device_has_and_says_what_it_was() -> None:
    reference, face = a_reference(), some_faces(1)
    exact = shared_gfpgan("small", copy.deepcopy(reference), Device("cpu", 2))
    fast = shared_gfpgan("small", reference, Device("cpu", 2), "fast")
    assert exact.precision == "fp32"
    assert fast.precision in ("fp32", "bf16")
    error = np.sqrt(np.mean((exact.restore(face) - fast.restore(face)) ** 2))
    assert error < 10 ** (-45 / 20)


def test_gfpgan_as_published_gives_the_references_numbers_from_its_file(tmp_path: Path, card_for: CardMaker) -> None:
    reference, face = a_reference(**PUBLISHED), some_faces(1, 512)
    torch.save({"params_ema": reference.state_dict()}, tmp_path / "gfpgan.pth")
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card_for(tmp_path / "gfpgan.pth", "gfpgan-clean"),)))
    restorer = open_restorer(store, "mine", Device("cpu", 2))
    assert (restorer.model_id, restorer.precision) == ("mine", "fp32")
    expected, restored = by_the_reference(reference, face[0]), restorer.restore(face)[0]
    assert np.abs(restored - expected).max() <= 1e-4
    assert (restored.min() >= 0, restored.max() <= 1, restored.std() > 0.05) == (True, True, True)


def test_restoreformer_gives_the_references_numbers(tmp_path: Path, card_for: CardMaker) -> None:
    """On a quarter of its side, which it takes as well: its attention has no places of its own."""
    compat.install()
    from gfpgan.archs.restoreformer_arch import RestoreFormer

    torch.manual_seed(5)
    network = RestoreFormer().eval()
    torch.save({"params": network.state_dict()}, tmp_path / "former.pth")
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card_for(tmp_path / "former.pth", "restoreformer"),)))
    restorer, faces = open_restorer(store, "mine", Device("cpu", 2), precision="fast"), some_faces(2, 128)
    for face, ours in zip(faces, restorer.restore(faces), strict=True):
        with torch.inference_mode():
            theirs = in_our_range(network(in_reference_range(face))[0])
        assert np.abs(ours - theirs).max() <= 1e-4
    assert restorer.precision == "fp32"


def test_a_network_of_codes_gets_its_options() -> None:
    def doubled(faces: torch.Tensor, weight: float) -> tuple[torch.Tensor, None]:
        return faces * weight, None

    class Network(torch.nn.Module):
        def forward(self, faces: torch.Tensor, weight: float) -> tuple[torch.Tensor, None]:
            return doubled(faces, weight)

    half = of_codes(Network(), "codes", Device(), weight=0.5).restore(np.ones((2, 4, 4, 3), np.float32))
    assert half == pytest.approx(0.75)


def codeformer_store(folder: Path, card: ModelCard, *accepted: str) -> ModelStore:
    return ModelStore(ModelSource(cache=str(folder), local=(card,), accepted=frozenset(accepted)))


def test_codeformer_is_not_opened_before_its_licence_is_accepted(tmp_path: Path, card_for: CardMaker) -> None:
    """Also for weights of one's own: it is the code that is under the licence."""
    torch.save({"params_ema": {}}, tmp_path / "mine.pth")
    card = card_for(tmp_path / "mine.pth", "codeformer")
    with pytest.raises(ModelError, match=r"LicenseRef-S-Lab-1\.0 only.*\n.*accept = ") as refused:
        open_restorer(codeformer_store(tmp_path, card, "MIT"), "mine", Device())
    assert refused.value.hint is not None
    published = ModelStore(ModelSource(cache=str(tmp_path)))
    with pytest.raises(ModelError, match="which the job does not accept"):
        open_restorer(published, "codeformer", Device())


def test_codeformer_without_its_packages_says_what_to_install(
    tmp_path: Path, card_for: CardMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"params_ema": {}}, tmp_path / "mine.pth")
    store = codeformer_store(tmp_path, card_for(tmp_path / "mine.pth", "codeformer"), "LicenseRef-S-Lab-1.0")
    monkeypatch.setitem(__import__("sys").modules, "spandrel_extra_arches", None)
    with pytest.raises(ModelError, match="needs the Python packages spandrel and spandrel_extra_arches"):
        open_restorer(store, "mine", Device())
    with pytest.raises(ModelError, match=r"must lie between 0 and 1, and is 1\.5"):
        open_restorer(store, "mine", Device(), fidelity=1.5)


def test_codeformer_gives_its_packages_numbers(tmp_path: Path, card_for: CardMaker) -> None:
    architectures = pytest.importorskip("spandrel_extra_arches.architectures.CodeFormer", exc_type=ImportError)
    torch.manual_seed(5)
    network = architectures.CodeFormer().eval()
    torch.save({"params_ema": network.state_dict()}, tmp_path / "mine.pth")
    store = codeformer_store(tmp_path, card_for(tmp_path / "mine.pth", "codeformer"), "LicenseRef-S-Lab-1.0")
    face = some_faces(1, 512)
    with torch.inference_mode():
        theirs = in_our_range(network(in_reference_range(face[0]), weight=0.7)[0])
    ours, loose = (open_restorer(store, "mine", Device("cpu", 2), fidelity=w).restore(face)[0] for w in (0.7, 0.0))
    assert np.abs(ours - theirs).max() <= 1e-4
    assert not np.array_equal(ours, loose)


def test_what_is_no_restorer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"parsenet.* is no face restorer"):
        open_restorer(ModelStore(ModelSource(cache=str(tmp_path))), "parsenet", Device())


@pytest.mark.parametrize("card", [card for card in CARDS if card.task == "faces"], ids=lambda card: card.id)
def test_a_file_that_is_missing_or_altered_is_not_opened(tmp_path: Path, card: ModelCard) -> None:
    store = ModelStore(ModelSource(cache=str(tmp_path), accepted=frozenset({card.consent or card.licence})))
    with pytest.raises(ModelError, match="is not installed"):
        open_restorer(store, card.id, Device())
    store.path(card.id).write_bytes(b"something else")
    with pytest.raises(ModelError, match="is not the published file"):
        open_restorer(store, card.id, Device())
