from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelSource, ModelStore
from pipeline.models.upscalers import open_upscaler

CardMaker = Callable[..., ModelCard]
EMBEDDED = "realesrgan-x4plus-embedded"


def local(tmp_path: Path, card: ModelCard) -> ModelStore:
    return ModelStore(ModelSource(cache=str(tmp_path / "cache"), local=(card,)))


@pytest.fixture
def compact(tmp_path: Path) -> Path:
    """A small SRVGGNetCompact of random weights: 3 convolutions of 8 features, twice as large."""
    from pipeline.models import compat

    compat.install()
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    torch.manual_seed(1)
    network = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=3, upscale=2, act_type="prelu")
    torch.save({"params": network.state_dict()}, tmp_path / "compact.pth")
    return tmp_path / "compact.pth"


def test_the_embedded_network_opens_ready_for_inference(tmp_path: Path) -> None:
    network = open_upscaler(ModelStore(ModelSource(cache=str(tmp_path))), EMBEDDED)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) == 16_697_987
    with torch.inference_mode():
        answer = network(torch.full((1, 3, 6, 8), 0.5))
    assert answer.shape == (1, 3, 24, 32)
    assert float(answer.mean()) == pytest.approx(0.5, abs=0.05)


def test_a_compact_network_tells_its_own_size(tmp_path: Path, compact: Path, card_for: CardMaker) -> None:
    network = open_upscaler(local(tmp_path, card_for(compact, "srvggnet-compact", 2)), "mine")
    with torch.inference_mode():
        answer = network(torch.rand(2, 3, 5, 7))
    assert answer.shape == (2, 3, 10, 14)
    expected = torch.load(compact, weights_only=True)["params"]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())


def test_a_wrong_scale_does_not_fit(tmp_path: Path, compact: Path, card_for: CardMaker) -> None:
    with pytest.raises(ModelError, match="does not fit srvggnet-compact"):
        open_upscaler(local(tmp_path, card_for(compact, "srvggnet-compact", 4)), "mine")


def test_a_wrong_architecture_does_not_fit(tmp_path: Path, compact: Path, card_for: CardMaker) -> None:
    with pytest.raises(ModelError, match="does not fit rrdbnet"):
        open_upscaler(local(tmp_path, card_for(compact, "rrdbnet", 4)), "mine")


def test_what_is_no_upscaler_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gfpgan-clean.* is no upscaler"):
        open_upscaler(ModelStore(ModelSource(cache=str(tmp_path))), "gfpgan-v1.4")


@pytest.mark.parametrize("names", [["conv_first.weight"], ["weight"], ["body.1.weight"]])
def test_other_weights_are_no_compact_network(tmp_path: Path, card_for: CardMaker, names: list[str]) -> None:
    torch.save({name: torch.zeros(4, 3, 3, 3) for name in names}, tmp_path / "other.pth")
    with pytest.raises(ModelError):
        open_upscaler(local(tmp_path, card_for(tmp_path / "other.pth", "srvggnet-compact", 2)), "mine")


@pytest.mark.parametrize("architecture", ["rrdbnet", "srvggnet-compact"])
def test_a_list_is_no_network(tmp_path: Path, card_for: CardMaker, architecture: str) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError):
        open_upscaler(local(tmp_path, card_for(tmp_path / "list.pth", architecture, 4)), "mine")
