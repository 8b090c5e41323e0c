"""Decoding in a process of its own, under limits: no file can take the worker down, whatever its bytes make a codec do.

`process` is the worker's side and `handle` its hold on the other process, which runs `child`; `wire` is what travels between
them. `limits` says how much time and memory a photograph may take, `headers` reads a file's size before its pixels.
"""

from pipeline.guard.limits import Limits
from pipeline.guard.process import Decoder
from pipeline.guard.wire import Shared

__all__ = ["Decoder", "Limits", "Shared"]
