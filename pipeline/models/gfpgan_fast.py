"""GFPGAN's clean network (Wang et al., CVPR 2021) computed with shared weights: the same numbers, sooner.

The reference modulates the weights of a StyleGAN2 convolution (Karras et al., CVPR 2020, section 2.2) for every face and
runs a grouped convolution over the batch. Here the input is scaled by the style, all faces pass one ordinary convolution, and
its output is scaled by the demodulation; the three give the same sum. Channels lie last in memory, as convolutions want them.
In fp32 on a CPU the larger convolutions are computed by Winograd's algorithm.

In fp32 whatever the number format: the code of the styles, modulation and demodulation (a square root of a sum of thousands of
squares), the noise as it is drawn, and the sum of the images in colour, which is what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.winograd import WinogradConvolution, pays

_GAIN = 2**0.5
_SLOPE = 0.2


class SharedGFPGAN(nn.Module):
    """forward: N x 3 x S x S RGB in -1..1, and for each layer the noise, N x 1 x h x w fp32, to N x 3 x S x S fp32.

    reference: a GFPGANv1Clean with its weights, whose style code is a latent for every layer and whose decoder has SFT; it is
    taken apart. number: format of the convolutions and of what flows between them. winograd: whether the larger convolutions
    may be computed so; in fp32 only.
    """

    def __init__(self, reference: Any, number: torch.dtype = torch.float32, *, winograd: bool = False) -> None:
        super().__init__()
        if not (reference.input_is_latent and reference.different_w):
            raise ValueError("the network must code its styles as one latent for each layer")
        decoder = reference.stylegan_decoder
        self.number = number
        self.styles = int(reference.num_style_feat)
        self.first = _packed(reference.conv_body_first, number)
        form = _Form(number, winograd and number is torch.float32)
        levels = range(3, int(reference.log_size) + 1)
        self.down = nn.ModuleList(
            _Residual(block, form, 2**level)
            for level, block in zip(reversed(levels), reference.conv_body_down, strict=True)
        )
        self.last = _packed(reference.final_conv, number)
        self.code = reference.final_linear.float()
        self.up = nn.ModuleList(
            _Residual(block, form, 2 ** (level - 1))
            for level, block in zip(levels, reference.conv_body_up, strict=True)
        )
        self.scale, self.shift = (
            nn.ModuleList(_head(head, form, 2**level) for level, head in zip(levels, heads, strict=True))
            for heads in (reference.condition_scale, reference.condition_shift)
        )
        self.constant = nn.Parameter(decoder.constant_input.weight.to(number), requires_grad=False)
        self.layers = nn.ModuleList(
            _StyledConvolution(layer, form, side)
            for layer, side in zip((decoder.style_conv1, *decoder.style_convs), self.noise_sides, strict=True)
        )
        self.colours = nn.ModuleList(_Colour(layer, number) for layer in (decoder.to_rgb1, *decoder.to_rgbs))

    @property
    def noise_sides(self) -> tuple[int, ...]:
        """The side of each layer's noise, in the order in which the layers take it: 4, 8, 8, 16, 16 ..."""
        return tuple(2 ** ((layer + 5) // 2) for layer in range(2 * len(self.up) + 1))

    def forward(self, faces: Tensor, noise: Sequence[Tensor]) -> Tensor:
        feature, skips = self.first(faces.to(self.number, memory_format=torch.channels_last)), []
        functional.leaky_relu_(feature, _SLOPE)
        for block in self.down:
            feature = block(feature)
            skips.append(feature)
        feature = functional.leaky_relu_(self.last(feature), _SLOPE)
        # The linear layer counts channels before rows: `flatten` reads the tensor in that order wherever its channels lie.
        latent = self.code(feature.float().flatten(1)).view(len(faces), -1, self.styles)
        conditions = []
        for block, scale, shift in zip(self.up, self.scale, self.shift, strict=True):
            feature = block(feature + skips.pop())
            conditions.append((scale(feature), shift(feature)))
        return self._decode(latent, conditions, noise)

    def _decode(self, latent: Tensor, conditions: list[tuple[Tensor, Tensor]], noise: Sequence[Tensor]) -> Tensor:
        constant = self.constant.expand(len(latent), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        out = self.layers[0](constant, latent[:, 0], noise[0])
        image: Tensor = self.colours[0](out, latent[:, 1])
        for level, (scale, shift) in enumerate(conditions):
            first = 2 * level + 1
            out = self.layers[first](out, latent[:, first], noise[first])
            # Half of the channels, or all of them, as the network was built.
            held = out[:, out.shape[1] - scale.shape[1] :]
            torch.addcmul(shift, held, scale, out=held)
            out = self.layers[first + 1](out, latent[:, first + 1], noise[first + 1])
            image = _doubled(image) + self.colours[level + 1](out, latent[:, first + 2])
        return image


@dataclass(frozen=True, slots=True)
class _Form:
    """How convolutions are computed."""

    number: torch.dtype
    winograd: bool


class _Convolution(nn.Module):
    """3 x 3 with a border of nothing, on pictures of `side` pixels. weight: K x C x 3 x 3."""

    def __init__(self, weight: Tensor, bias: Tensor | None, form: _Form, side: int) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(form.number), requires_grad=False)
        self.quick = form.winograd and pays(weight.shape[0], weight.shape[1], side, side)
        if self.quick:
            self.winograd = WinogradConvolution(weight)
        else:
            self.weight = _shared(weight.detach(), form.number)

    def forward(self, x: Tensor) -> Tensor:
        if not self.quick:
            return functional.conv2d(x, self.weight, self.bias, padding=1)
        out: Tensor = self.winograd(x)
        return out if self.bias is None else out.add_(self.bias[:, None, None])


class _StyledConvolution(nn.Module):
    """StyleConv: modulated convolution, noise, bias, leaky ReLU. side: of its output."""

    def __init__(self, layer: Any, form: _Form, side: int) -> None:
        super().__init__()
        convolution = layer.modulated_conv
        if not convolution.demodulate or convolution.sample_mode not in (None, "upsample"):
            raise ValueError("only demodulated convolutions are known, with or without enlargement")
        weight = convolution.weight.detach()[0].float()
        self.enlarge = convolution.sample_mode == "upsample"
        self.eps = float(convolution.eps)
        self.modulation = convolution.modulation.float()
        self.squares = nn.Parameter(weight.square().sum((2, 3)).T.contiguous(), requires_grad=False)
        self.convolution = _Convolution(weight, None, form, side)
        self.strength = layer.weight
        self.bias = nn.Parameter(layer.bias.detach().to(form.number), requires_grad=False)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        scale = self.modulation(style)
        gain = torch.rsqrt(scale.square() @ self.squares + self.eps) * _GAIN
        x = x * scale.to(x.dtype)[..., None, None]
        out: Tensor = self.convolution(_doubled(x) if self.enlarge else x)
        out.mul_(gain.to(out.dtype)[..., None, None])
        out.add_((noise * self.strength).to(out.dtype)).add_(self.bias)
        return functional.leaky_relu_(out, _SLOPE)


class _Colour(nn.Module):
    """ToRGB without the sum: a modulated 1 x 1 convolution to three channels, which is a product of small matrices."""

    def __init__(self, layer: Any, number: torch.dtype) -> None:
        super().__init__()
        self.modulation = layer.modulated_conv.modulation.float()
        self.weight = nn.Parameter(layer.modulated_conv.weight.detach()[0, :, :, 0, 0].float(), requires_grad=False)
        self.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
        self.number = number

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        weight = (self.weight * self.modulation(style)[:, None]).to(self.number)
        pixels = x.permute(0, 2, 3, 1).reshape(count, height * width, channels)
        colours = torch.bmm(pixels, weight.transpose(1, 2)).float()
        return colours.view(count, height, width, 3).permute(0, 3, 1, 2) + self.bias


class _Residual(nn.Module):
    """ResBlock, halving or doubling. What is linear is computed where there are fewer pixels: the 1 x 1 convolution of the
    shortcut has no bias and comes before an enlargement, which weighs neighbours and leaves channels alone."""

    def __init__(self, block: Any, form: _Form, side: int) -> None:
        """side: of what is given."""
        super().__init__()
        self.enlarge = block.scale_factor > 1
        self.first = _of(block.conv1, form, side)
        self.second = _of(block.conv2, form, side * 2 if self.enlarge else side // 2)
        self.skip = _packed(block.skip, form.number)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.leaky_relu_(self.first(x), _SLOPE)
        out = _doubled(out) if self.enlarge else _halved(out)
        out = functional.leaky_relu_(self.second(out), _SLOPE)
        return out.add_(_doubled(self.skip(x)) if self.enlarge else self.skip(_halved(x)))


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _halved(x: Tensor) -> Tensor:
    """Bilinear to half the side, pixel centres kept: the mean of two by two pixels."""
    return functional.avg_pool2d(x, 2)


def _of(module: Any, form: _Form, side: int) -> _Convolution:
    return _Convolution(module.weight, module.bias, form, side)


def _head(head: Any, form: _Form, side: int) -> nn.Sequential:
    """Two convolutions with a leaky ReLU between them."""
    return nn.Sequential(_of(head[0], form, side), nn.LeakyReLU(_SLOPE, inplace=True), _of(head[2], form, side))


def _packed(module: Any, number: torch.dtype) -> Any:
    return module.to(dtype=number, memory_format=torch.channels_last)


def _shared(weight: Tensor, number: torch.dtype) -> nn.Parameter:
    return nn.Parameter(weight.to(number).contiguous(memory_format=torch.channels_last), requires_grad=False)
