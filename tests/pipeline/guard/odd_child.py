"""A decoder that does, for files that ask for it, what codecs do to decoders. Run by the tests in place of the real child."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import numpy as np

from pipeline import codecs
from pipeline.guard import child, wire
from pipeline.photograph import Container, Photograph

_decode = codecs.decode
_broken = False


def odd_decode(data: bytes, item_id: str, max_pixels: int, colour: str = "DULL") -> Photograph:
    global _broken
    kind = data[:5]
    if kind == b"BREAK":
        _broken = True
    elif kind == b"CRASH" or _broken:
        ctypes.string_at(0)
    elif kind == b"ABORT":
        os.abort()
    elif kind == b"KILL!":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == b"SPIN!":
        while True:
            pass
    elif kind == b"SLEEP":
        time.sleep(3600)
    elif kind == b"HOARD":
        hoard = []
        while True:
            hoard.append(np.ones(1 << 24, np.uint8))
    elif kind == b"RAISE":
        raise NotImplementedError("nobody thought of this")
    elif kind == b"CHATS":
        os.write(2, b"corrupt data\n" * 20_000)
    elif kind in (b"LIE_1", b"LIE_2", b"LIE_3"):
        wire_lie(kind)
    elif kind == b"NAN!!":
        return Photograph("", np.zeros((1, 1, 1), np.uint8), Container("ODD", dpi=(float("nan"), 300.0)))
    else:
        return _decode(data, item_id, max_pixels)
    return Photograph("", np.zeros((1, 1, 1), np.uint8), Container(colour))


def wire_lie(kind: bytes) -> None:
    """From here on this child's answers are nonsense."""
    real = wire.send_photograph

    def lie(photograph: Photograph) -> tuple[dict[str, object], int]:
        description, fd = real(photograph)
        if kind == b"LIE_1":
            return description | {"shape": [60_000, 60_000, 3]}, fd
        if kind == b"LIE_2":
            return description | {"blobs": {"icc": -5}}, fd
        return description, os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)

    child.send_photograph = lie


codecs.decode = odd_decode
sys.exit(child.main(sys.argv[1:]))
