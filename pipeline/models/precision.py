"""Which format of numbers a network computes in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from pipeline.stage import Device

if TYPE_CHECKING:
    import torch

Precision = Literal["exact", "fast"]


def bf16_where_native(precision: Precision, device: Device) -> torch.dtype:
    """fp32 for `exact`; for `fast` bf16 where the device computes it with instructions of its own.

    Not fp16: StyleGAN's activations may leave its range unless they are clamped (as Karras et al., NeurIPS 2020, train theirs),
    and bf16 has the range of fp32.
    """
    import torch

    if precision == "exact":
        return torch.float32
    if device.kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Without native instructions the CPU would emulate them, slower than fp32.
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported() and "AVX512" in torch.backends.cpu.get_cpu_capability()
    return torch.bfloat16 if native else torch.float32


def convolving(kind: str, *, exact: bool) -> AbstractContextManager[None]:
    """kind: of the device. Convolutions on GPUs round fp32 to 10 bits (TF32) unless told not to, and may add up in any order:
    here they always add up in the same, and where `exact` they round nothing more."""
    import torch

    if kind != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=not exact
    )
    return flags


def name_of(kind: torch.dtype) -> str:
    """`fp32`, `bf16` or `fp16`, as events record it."""
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[str(kind).removeprefix("torch.")]
