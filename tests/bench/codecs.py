"""Part f: what decoding and encoding take, format by format, in this process and on one core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.codecs import ENCODERS, decode, encode
from tests.bench.ground import Figure, Options, grainy, middle, photograph, spread, timed

_MEGAPIXELS = 2.0
_LIMIT = 10**9
# No encoder of HEVC is installed here: a small file that was written with one, whose rate is that of small files.
_HEIC = Path(__file__).resolve().parents[1] / "pipeline" / "codecs" / "data" / "rgb8.heic"


def rows(options: Options) -> Iterator[Figure]:
    """Megapixels a second; the note has megabytes a second of the file. Lossless but JPEG, whose quality is 95; 8-bit RGB with
    grain."""
    picture = photograph(grainy(_MEGAPIXELS))
    size = picture.height * picture.width / 1e6
    runs = min(options.runs, 3)
    for name in ENCODERS:
        data = encode(picture, name)
        yield _row(f"{name}, encode", size, len(data), lambda: encode(picture, name), runs)  # noqa: B023
        yield _row(f"{name}, decode", size, len(data), lambda: decode(data, "bench", _LIMIT), runs)  # noqa: B023
    yield from heif(runs)


def heif(runs: int) -> Iterator[Figure]:
    data = _HEIC.read_bytes()
    found = decode(data, "bench", _LIMIT)
    size = found.height * found.width / 1e6
    yield _row(f"heif, decode, {size:.2g} megapixels", size, len(data), lambda: decode(data, "bench", _LIMIT), runs)


def _row(what: str, megapixels: float, size: int, call: Callable[[], object], runs: int) -> Figure:
    taken = timed(call, runs)
    seconds = middle(taken)
    note = f"{size / 1e6 / seconds:.1f} MB/s of the file, {8 * size / megapixels / 1e6:.2f} bits a pixel"
    return Figure(what, megapixels / seconds, "megapixels/s", spread(taken), note=note)
