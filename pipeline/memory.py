"""How much memory a photograph needs in a pool of stages, and how much of a machine's is there for photographs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pipeline.honesty.proof import PROOF_PIXELS
from pipeline.photograph import Photograph

# Of the machine's memory. Ray's object store takes 30 %; the processes themselves and the system take the rest.
_PART = 0.6
# Whatever the size: parsers' buffers, small arrays, allocators' slack.
_BASE = 64 << 20
# What control groups (v2, v1) allow this process, as containers see it.
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class Size:
    """What an image's header promises. depth: bits a sample, 8 or 16. channels: alpha included."""

    width: int
    height: int
    channels: int
    depth: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def stored(self) -> int:
        """Bytes of one pixel."""
        return self.channels * self.depth // 8

    @property
    def deep(self) -> int:
        """Bytes of one pixel at 16 bits."""
        return 2 * self.channels

    @property
    def colours(self) -> int:
        return 1 if self.channels <= 2 else 3


# Bytes a pixel of what is measured on copies of at most PROOF_PIXELS, whatever the photograph's size: by deliver, which takes
# most, and by others for their events; the proof itself is among them.
_COPIES = 268

# The longer side of the largest copy of a photograph that a face detector is given, as `models.face_detectors` has it.
_SEARCHED = 2048


def _searched(size: Size) -> int:
    """Pixels of the largest copy that a face detector is given."""
    return int(size.pixels * min(1.0, _SEARCHED / max(size.width, size.height)) ** 2)


# The longest side of what an upscaler is given at once, pixels: bounds its arrays.
LARGEST_TILE = 1024


def _tile(size: Size) -> int:
    """Pixels of the largest tile that an upscaler is given."""
    return min(size.width, LARGEST_TILE) * min(size.height, LARGEST_TILE)


# Bytes that a network takes at its peak beyond its weights, on a CPU in fp32, for one face at a time, one search, or one tile,
# by architecture; with a margin over what was measured (docs/large-scans.md). On a GPU they take the card's memory.
_NETWORKS: Mapping[str, Callable[[Size], int]] = MappingProxyType(
    {
        "retinaface-resnet50": lambda size: 340 * _searched(size),
        "retinaface-mobile0.25": lambda size: 160 * _searched(size),
        "yunet": lambda size: 160 * _searched(size),
        "gfpgan-clean": lambda size: 800 << 20,
        "restoreformer": lambda size: 1600 << 20,
        "codeformer": lambda size: 1600 << 20,
        "parsenet": lambda size: 700 << 20,
        "bisenet": lambda size: 400 << 20,
        "damage-unet": lambda size: 320 << 20,
        "noise-net": lambda size: 300 << 20,
        # Four arrays of 64 channels, two and the answer; and a window of the layers behind them.
        **dict.fromkeys(("rrdbnet", "rrdbnet-ncnn"), lambda size: (200 << 20) + 1300 * _tile(size)),
        "srvggnet-compact": lambda size: (100 << 20) + 900 * _tile(size),
    }
)


def size_of(photograph: Photograph) -> Size:
    """As its header would promise it."""
    channels = photograph.pixels.shape[2] + (photograph.alpha is not None)
    return Size(photograph.width, photograph.height, channels, photograph.pixels.dtype.itemsize * 8)


def need(size: Size, working: Sequence[Callable[[Size], int]], networks: Sequence[str] = ()) -> int:
    """Bytes that one photograph takes at most in a pool, all processes of the pool's actor together.

    working: of the pool's stages, as their footprints declare it. networks: architectures of the models that the pool computes
    with on the CPU. They run one after another, and those that are not known here are counted in their stage's figure.
    """
    return need_together([size], working, networks)


def need_together(sizes: Sequence[Size], working: Sequence[Callable[[Size], int]], networks: Sequence[str] = ()) -> int:
    """As `need`, of photographs that an actor has in hand at once and works on one by one."""
    known = (_NETWORKS[name](size) for name in networks if name in _NETWORKS for size in sizes)
    copies = max((min(size.pixels, PROOF_PIXELS) for size in sizes), default=0) * _COPIES
    # What a stage gives back has 16 bits, whatever the scan has. Codes of damage take a byte a pixel beside it.
    whole = sum(s.pixels * (2 * s.deep + 1 + max((takes(s) for takes in working), default=0)) for s in sizes)
    return _BASE + whole + max(known, default=0) + copies


def machine_bytes() -> int:
    """The memory of this machine, or less where its container may use less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _CGROUPS:
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def budget() -> int:
    """What photographs may take of this machine at once."""
    return int(machine_bytes() * _PART)
