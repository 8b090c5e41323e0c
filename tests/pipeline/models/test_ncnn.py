from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models.ncnn import read_convolutions

FLAG = 0x01306B47
PARAM = """7767517
4 4
Input in0 0 1 data
Convolution first 1 1 data a 0=2 1=3 4=1 5=1 6=54 -23330=4,3,2,2,2
ReLU act 1 1 a b 0=2.000000e-01
Convolution second 1 1 b out 0=1 1=1 5=1 6=3
"""


@pytest.fixture
def tensors() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    shapes = [(2, 3, 3, 3), (2,), (1, 3, 1, 1), (1,)]
    return [rng.normal(size=shape).astype(np.float16).astype(np.float32) for shape in shapes]


def packed(tensors: list[NDArray[np.float32]], flag: int = FLAG) -> bytes:
    parts = []
    for weight, bias in (tensors[:2], tensors[2:]):
        body = weight.astype("<f2").tobytes()
        parts.append(struct.pack("<I", flag) + body + b"\0" * (-len(body) % 4) + bias.astype("<f4").tobytes())
    return b"".join(parts)


def files(folder: Path, weights: bytes, graph: str = PARAM) -> tuple[Path, Path]:
    (folder / "net.param").write_text(graph)
    (folder / "net.bin").write_bytes(weights)
    return folder / "net.param", folder / "net.bin"


def test_convolutions_are_read_in_order(tmp_path: Path, tensors: list[NDArray[np.float32]]) -> None:
    found = read_convolutions(*files(tmp_path, packed(tensors)))
    assert [layer.name for layer in found] == ["first", "second"]
    for layer, (weight, bias) in zip(found, (tensors[:2], tensors[2:]), strict=True):
        assert layer.weight.dtype == layer.bias.dtype == np.float32
        assert np.array_equal(layer.weight, weight)
        assert np.array_equal(layer.bias, bias)


@pytest.mark.parametrize("kept", [0, 3, 4, 50, -1, -4, -5])
def test_a_truncated_file_is_refused(tmp_path: Path, tensors: list[NDArray[np.float32]], kept: int) -> None:
    with pytest.raises(ModelError, match=r"net\.bin"):
        read_convolutions(*files(tmp_path, packed(tensors)[:kept]))


@pytest.mark.parametrize("flag", [0, 0x000D4B38, 0x47306B01])
def test_weights_of_another_kind_are_refused(tmp_path: Path, tensors: list[NDArray[np.float32]], flag: int) -> None:
    with pytest.raises(ModelError, match="first are not 16-bit floats"):
        read_convolutions(*files(tmp_path, packed(tensors, flag)))


def test_bytes_left_over_are_refused(tmp_path: Path, tensors: list[NDArray[np.float32]]) -> None:
    with pytest.raises(ModelError, match="4 bytes are left over"):
        read_convolutions(*files(tmp_path, packed(tensors) + b"\0" * 4))


def test_a_convolution_without_bias_is_refused(tmp_path: Path, tensors: list[NDArray[np.float32]]) -> None:
    with pytest.raises(ModelError, match="first has no bias"):
        read_convolutions(*files(tmp_path, packed(tensors), PARAM.replace("5=1 6=54", "6=54")))


def test_weights_that_fill_no_kernel_are_refused(tmp_path: Path, tensors: list[NDArray[np.float32]]) -> None:
    with pytest.raises(ModelError, match="53 weights of first do not fill 2 outputs of 3 x 3"):
        read_convolutions(*files(tmp_path, packed(tensors), PARAM.replace("6=54", "6=53")))


@pytest.mark.parametrize("graph", ["", "7767516\n" + PARAM[8:], "<html>not found</html>"])
def test_what_is_no_graph_is_refused(tmp_path: Path, tensors: list[NDArray[np.float32]], graph: str) -> None:
    with pytest.raises(ModelError, match="is no ncnn graph"):
        read_convolutions(*files(tmp_path, packed(tensors), graph))


@pytest.mark.parametrize("graph", [PARAM + "\n", PARAM.replace("1=3 ", ""), PARAM.replace("first", "fürst")])
def test_a_broken_graph_is_a_model_error_or_read(
    tmp_path: Path, tensors: list[NDArray[np.float32]], graph: str
) -> None:
    paths = files(tmp_path, packed(tensors))
    paths[0].write_text(graph, encoding="utf-8")
    try:
        found = read_convolutions(*paths)
    except ModelError:
        return
    assert len(found) == 2
