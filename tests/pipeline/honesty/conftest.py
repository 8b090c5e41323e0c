"""A real photograph and what it takes to measure an output against it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from pipeline.honesty.measure import Shown, measured
from pipeline.honesty.proof import proof_of
from pipeline.honesty.row import Honesty
from pipeline.photograph import Container, Photograph
from pipeline.record import Event

Pixels = NDArray[Any]
Judge = Callable[..., tuple[Honesty, Shown]]


@pytest.fixture
def scan() -> Photograph:
    """224 x 288 x 3, 16 bits, with grain."""
    small = cv2.resize(skimage.data.coffee(), (288, 224), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    grain = np.random.default_rng(1).normal(0, 0.01, small.shape[:2]).astype(np.float32)
    pixels = np.rint(np.clip(small + grain[..., None], 0, 1) * 65535).astype(np.uint16)
    photograph = Photograph("item", pixels, Container("TIFF"))
    return replace(photograph, proof=proof_of(photograph))


def event(stage: str, outcome: str = "applied", parameters: str = "{}", **findings: Any) -> Event:
    return Event(stage, "1", outcome, None, parameters, (), "a", "b", 0.5, 1.0, "cpu", None, json.dumps(findings))


@pytest.fixture
def event_of() -> Callable[..., Event]:
    return event


@pytest.fixture
def judge(scan: Photograph) -> Judge:
    """What is measured on these pixels as the output of `scan`."""

    def look(pixels: Pixels, *events: Event, scale: int = 1, **others: Any) -> tuple[Honesty, Shown]:
        output = replace(scan, pixels=np.ascontiguousarray(pixels), scale=scale, **others)
        assert scan.proof is not None
        found = measured(scan.proof, output, events, output.faces)
        assert found is not None
        return found

    return look
