from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.functional import normalize

from pipeline.errors import ModelError
from pipeline.models import compat
from pipeline.models.catalogue import ModelCard
from pipeline.models.parsing import PARSERS, FaceParser, open_parser
from pipeline.models.store import ModelSource, ModelStore
from pipeline.stage import Device

CardMaker = Callable[..., ModelCard]


def facexlibs(architecture: str) -> Any:
    compat.install()
    from facexlib.parsing import BiSeNet, ParseNet

    torch.manual_seed(11)
    return (BiSeNet(num_class=19) if architecture == "bisenet" else ParseNet(512, 512, parsing_ch=19)).eval()


@pytest.mark.parametrize("architecture", list(PARSERS))
def test_it_says_what_facexlibs_network_says(tmp_path: Path, card_for: CardMaker, architecture: str) -> None:
    """The same seeded weights on both sides, on half the side that faces have: their layers take any."""
    network = facexlibs(architecture)
    torch.save(network.state_dict(), tmp_path / "parser.pth")
    card = card_for(tmp_path / "parser.pth", architecture)
    parser = open_parser(ModelStore(ModelSource(cache=str(tmp_path), local=(card,))), "mine", Device("cpu", 1))
    face = np.random.default_rng(5).random((256, 256, 3)).astype(np.float32)
    shown = torch.from_numpy(face.transpose(2, 0, 1)[None].copy())
    known = PARSERS[architecture]
    with torch.no_grad():
        reference = network(normalize(shown, known.mean, known.deviation))[0].argmax(dim=1)[0].numpy()
    (found,) = parser.parse(face[None])
    assert (found.shape, found.dtype) == ((256, 256), np.uint8)
    assert np.mean(found != reference) < 1e-4
    assert len(np.unique(found)) > 1


def test_the_face_is_what_facexlib_lays_in() -> None:
    """Its table for ParseNet's classes; the same parts by BiSeNet's numbers: no background, neck, necklace, clothes, hat."""
    table = [0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 255, 0, 0, 0]
    labels: NDArray[np.uint8] = np.arange(19, dtype=np.uint8)[None]
    parser = FaceParser("parsenet", "parsenet", None, Device())
    assert parser.face_of(labels)[0].tolist() == [value > 0 for value in table]
    other = FaceParser("bisenet", "bisenet", None, Device())
    assert np.flatnonzero(~other.face_of(labels)[0]).tolist() == [0, 14, 15, 16, 18]


def test_weights_of_another_network_do_not_fit(tmp_path: Path, card_for: CardMaker) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    card = card_for(tmp_path / "other.pth", "bisenet")
    with pytest.raises(ModelError, match="does not fit bisenet"):
        open_parser(ModelStore(ModelSource(cache=str(tmp_path), local=(card,))), "mine", Device())


def test_a_model_for_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gfpgan-v1.4.* does not parse faces"):
        open_parser(ModelStore(ModelSource(cache=str(tmp_path))), "gfpgan-v1.4", Device())
