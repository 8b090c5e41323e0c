"""Opens face restorers: GFPGAN (Wang et al., CVPR 2021), RestoreFormer (Wang et al., CVPR 2022) and CodeFormer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models import compat
from pipeline.models.catalogue import CODEFORMER, ModelCard
from pipeline.models.codeformer import codeformer
from pipeline.models.precision import Precision, bf16_where_native, convolving, name_of
from pipeline.models.store import ModelStore, state_dict
from pipeline.stage import Device

if TYPE_CHECKING:
    from torch import Tensor

Faces = NDArray[np.float32]

# Side of an aligned face.
PATCH = 512
# How many faces pass the network together, always. On CPUs more gain nothing, and a lone face would pay for the rest.
_BATCH = {"cpu": 1, "cuda": 8}
_FIDELITY = 0.5


@dataclass(frozen=True, slots=True)
class Wishes:
    """What an adapter may be asked for. precision: `fast` is 16-bit floats where they are native and the network bears them.
    fidelity: of CodeFormer, 0 for the best looks to 1 for the closest to the source, None for 0.5."""

    precision: Precision = "exact"
    fidelity: float | None = None


class FaceRestorer:
    """restore: faces of any photographs; the same face gives the same bytes, whatever others are restored with it.

    network: N x 3 x S x S fp32 RGB in -1..1, and the faces' digests, to the same shape. precision: what it computes in.
    batch: how many faces it is given at once, always.
    """

    def __init__(
        self,
        model_id: str,
        network: Callable[[Tensor, list[bytes]], Tensor],
        device: Device,
        precision: str = "fp32",
        batch: int = 1,
    ) -> None:
        self.model_id = model_id
        self.precision = precision
        self.batch = batch
        self._network = network
        self._device = device

    def restore(self, aligned: Faces) -> Faces:
        """aligned: N x 512 x 512 x 3 float32 RGB in 0..1, N may be 0. Same shape and range.

        The batch is always full, if need be with copies of the last face, since libraries choose kernels, and with them the
        order of sums, by the shape. What the network raises, for want of memory above all, is passed on.
        """
        restored = np.empty_like(aligned, order="C")
        for start in range(0, len(aligned), self.batch):
            group = aligned[start : start + self.batch]
            full = np.concatenate([group, np.repeat(group[-1:], self.batch - len(group), axis=0)])
            restored[start : start + self.batch] = self._pass(full)[: len(group)]
        return restored

    def _pass(self, faces: Faces) -> Faces:
        import torch

        digests = [hashlib.sha256(np.ascontiguousarray(face).data).digest() for face in faces]
        planes = np.ascontiguousarray(faces.transpose(0, 3, 1, 2))
        with torch.inference_mode(), convolving(self._device.kind, exact=self.precision == "fp32"):
            tensor = torch.from_numpy(planes).sub(0.5).div(0.5).to(self._device.kind)
            answer = self._network(tensor, digests).float().clamp(-1, 1).add(1).div(2)
            unit: Faces = answer.permute(0, 2, 3, 1).cpu().numpy()
        return unit


def noise_of(digest: bytes, sides: tuple[int, ...]) -> Iterator[Tensor]:
    """The noise of one face, layer by layer in the order in which the network takes it: 1 x 1 x side x side fp32 on the CPU.

    Standard normal, from a generator of its own that is seeded with the first 8 bytes of the digest as a little-endian signed
    number. These are the numbers that the reference draws after `torch.manual_seed` with that seed, one face at a time.
    """
    import torch

    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    for side in sides:
        yield torch.empty(1, 1, side, side).normal_(generator=generator)


def open_restorer(
    models: ModelStore,
    model_id: str,
    device: Device,
    *,
    precision: Precision = "exact",
    fidelity: float | None = None,
) -> FaceRestorer:
    """precision: `fast` is bf16 where the device has it and the network bears it. fidelity: of CodeFormer alone, 0..1.

    Raises ModelError for a missing or altered file, for a model that is no restorer known here, for one whose licence the job
    has not accepted, and for a fidelity where the network has none.
    """
    card = models.card(model_id)
    if card.architecture not in RESTORERS:
        raise ModelError(f"model {model_id} ({card.architecture}) is no face restorer that can be opened here")
    models.consented(card)
    if fidelity is not None and card.architecture != CODEFORMER:
        raise ModelError(f"model {model_id} ({card.architecture}) has no fidelity that could be asked for")
    import torch

    torch.set_num_threads(device.threads)
    return RESTORERS[card.architecture](models, card, device, Wishes(precision, fidelity))


def gfpgan_clean() -> Any:
    """GFPGANv1Clean as v1.3 and v1.4 are built, without weights."""
    compat.install()
    from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean

    return GFPGANv1Clean(
        out_size=PATCH,
        num_style_feat=512,
        channel_multiplier=2,
        decoder_load_path=None,
        fix_decoder=False,
        num_mlp=8,
        input_is_latent=True,
        different_w=True,
        narrow=1,
        sft_half=True,
    )


def _open_gfpgan(models: ModelStore, card: ModelCard, device: Device, wishes: Wishes) -> FaceRestorer:
    return shared_gfpgan(
        card.id, _loaded(gfpgan_clean, models, card), device, wishes.precision if card.half else "exact"
    )


def shared_gfpgan(model_id: str, reference: Any, device: Device, precision: Precision = "exact") -> FaceRestorer:
    """A restorer around a GFPGANv1Clean, which is taken apart."""
    import torch

    from pipeline.models.gfpgan_fast import SharedGFPGAN

    kind = bf16_where_native(precision, device)
    # Libraries for GPUs choose such algorithms by themselves.
    network = SharedGFPGAN(reference, kind, winograd=device.kind == "cpu")
    network = network.eval().requires_grad_(requires_grad=False).to(device.kind)

    def restored(faces: Tensor, digests: list[bytes]) -> Tensor:
        layers = zip(*(noise_of(digest, network.noise_sides) for digest in digests), strict=True)
        answer: Tensor = network(faces, [torch.cat(layer).to(device.kind) for layer in layers])
        return answer

    return FaceRestorer(model_id, restored, device, name_of(kind), _BATCH[device.kind])


def _open_restoreformer(models: ModelStore, card: ModelCard, device: Device, wishes: Wishes) -> FaceRestorer:
    compat.install()
    from gfpgan.archs.restoreformer_arch import RestoreFormer

    return of_codes(_loaded(RestoreFormer, models, card), card.id, device)


def _open_codeformer(models: ModelStore, card: ModelCard, device: Device, wishes: Wishes) -> FaceRestorer:
    fidelity = _FIDELITY if wishes.fidelity is None else wishes.fidelity
    if not 0 <= fidelity <= 1:
        raise ModelError(f"model {card.id}: the fidelity must lie between 0 and 1, and is {fidelity:g}")
    return of_codes(_loaded(lambda: codeformer(card.id), models, card), card.id, device, weight=fidelity)


def of_codes(network: Any, model_id: str, device: Device, **options: float) -> FaceRestorer:
    """Networks that look up codes: always in fp32, because a rounding may turn one code into another."""

    network = network.to(device.kind)

    def restored(faces: Tensor, digests: list[bytes]) -> Tensor:
        answer: Tensor = network(faces, **options)[0]
        return answer

    return FaceRestorer(model_id, restored, device, batch=_BATCH[device.kind])


def _loaded(build: Callable[[], Any], models: ModelStore, card: ModelCard) -> Any:
    weights = state_dict(models.read_weights(card.id))
    network = build()
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelError(f"model {card.id}: the file does not fit {card.architecture}: {error}") from error
    return network.eval().requires_grad_(requires_grad=False)


RESTORERS: Mapping[str, Callable[[ModelStore, ModelCard, Device, Wishes], FaceRestorer]] = MappingProxyType(
    {"gfpgan-clean": _open_gfpgan, "restoreformer": _open_restoreformer, CODEFORMER: _open_codeformer}
)
