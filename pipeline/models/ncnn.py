"""Reads the weights of an ncnn graph of plain convolutions.

ncnn (BSD-3-Clause) keeps a graph in two files. The text `.param`: a magic number, counts, then one layer a line as
`type name inputs outputs blobs... key=value...`; for Convolution 0 is the number of outputs, 1 the kernel width, 5 whether
there is a bias, 6 the number of weights. The binary `.bin`: for each Convolution, in the graph's order, a flag word, the
weights (here 16-bit floats, padded to 4 bytes), then the bias as 32-bit floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError

_MAGIC = "7767517"
_FP16_FLAG = 0x01306B47


@dataclass(frozen=True, slots=True)
class Convolution:
    """weight: outputs x inputs x k x k float32. bias: outputs float32."""

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def read_convolutions(graph: Path, weights: Path) -> list[Convolution]:
    """Every convolution in the graph's order. Raises ModelError where the two files do not fit each other."""
    try:
        return _read(graph, weights)
    except (KeyError, ValueError) as error:
        raise ModelError(f"{graph} is no graph of plain convolutions: {error}") from error


def _read(graph: Path, weights: Path) -> list[Convolution]:
    lines = [line for line in graph.read_text(encoding="ascii").splitlines() if line.strip()]
    if not lines or lines[0].strip() != _MAGIC:
        raise ModelError(f"{graph} is no ncnn graph")
    data = weights.read_bytes()
    position = 0
    found: list[Convolution] = []
    for line in lines[2:]:
        kind, name, *rest = line.split()
        if kind != "Convolution":
            continue
        layer, position = _read_one(name, _attributes(rest), data, position, weights)
        found.append(layer)
    if position != len(data):
        raise ModelError(f"{weights}: {len(data) - position} bytes are left over after the last convolution")
    return found


def _read_one(name: str, attributes: dict[int, int], data: bytes, position: int, path: Path) -> tuple[Convolution, int]:
    outputs, kernel, count = attributes[0], attributes[1], attributes[6]
    weights_end = position + 4 + 2 * count + (-2 * count) % 4
    end = weights_end + 4 * outputs
    if attributes.get(5) != 1 or end > len(data):
        raise ModelError(f"{path}: {name} has no bias, or the file ends inside it")
    if int.from_bytes(data[position : position + 4], "little") != _FP16_FLAG:
        raise ModelError(f"{path}: the weights of {name} are not 16-bit floats")
    inputs, left = divmod(count, outputs * kernel * kernel)
    if left:
        raise ModelError(f"{path}: {count} weights of {name} do not fill {outputs} outputs of {kernel} x {kernel}")
    weight = np.frombuffer(data, "<f2", count, position + 4).astype(np.float32)
    bias = np.frombuffer(data, "<f4", outputs, weights_end).astype(np.float32)
    return Convolution(name, weight.reshape(outputs, inputs, kernel, kernel), bias), end


def _attributes(fields: list[str]) -> dict[int, int]:
    """The whole-number attributes among a layer's fields; array attributes (negative keys) are left out."""
    pairs = (field.split("=", 1) for field in fields if "=" in field)
    return {int(key): int(value) for key, value in pairs if not key.startswith("-") and "." not in value}
