"""Gates while they are captured: what a squeeze-excitation and a spatial attention are made of, before they multiply.

A pooled activation is no image that a plan could hold, so it travels through capture as one of these values, which remember
what was done to it, until the product with an activation makes the one node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from srfast.errors import UnsupportedModelError
from srfast.plan import ChannelGate, SpatialGate
from srfast.plan.nodes import GateCurve, GateMoment


@dataclass(frozen=True)
class Layer:
    """A 1x1 convolution of a pooled activation, [O, C] and [O], with what follows it."""

    weight: Tensor
    bias: Tensor
    act: str = "none"
    slope: Tensor | None = None


@dataclass(frozen=True)
class Pooled:
    """Moments of all channels of ``source`` over the image, through ``layers``.

    ``moment`` is "mean", "variance", "deviation" (its root) or "contrast" (deviation plus mean).
    """

    source: str
    layers: tuple[Layer, ...] = ()
    moment: str = "mean"


@dataclass(frozen=True)
class Pair:
    """Variance, or deviation, and mean of all channels of ``source`` over the image, as PyTorch gives them together."""

    source: str
    moment: str


@dataclass(frozen=True)
class Moment:
    """Mean or largest channel of each pixel of ``source``; ``indexed`` still has to have its values picked from a pair."""

    source: str
    kind: str
    indexed: bool = False


@dataclass(frozen=True)
class Moments:
    """Both moments as two channels, through a convolution and a sigmoid once those came."""

    source: str
    weight: Tensor | None = None
    bias: Tensor | None = None
    done: bool = False


GATES = (Pooled, Pair, Moment, Moments)


def pooled(name: str, x: Any, output_size: Any) -> Pooled:
    """Adaptive average pooling, to one pixel only."""
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,)
    if set(sizes) != {1} or not isinstance(x, str):
        raise UnsupportedModelError(
            f"no plan node covers adaptive pooling to {output_size} (at {name}): to 1x1, for a gate"
        )
    return Pooled(x)


def mean(b: Any, name: str, x: Any, dim: Any = None, keepdim: bool = False) -> Pooled | Moment:
    """Mean over channels, or over all pixels."""
    dims = {dim} if isinstance(dim, int) else set(dim or ())
    if isinstance(x, str) and keepdim and dims in ({2, 3}, {-1, -2}):
        return Pooled(x)
    return Moment(x, "mean", _check_channels(name, x, dims, keepdim))


def spread(kind: str, with_mean: bool = False) -> Any:
    """The converter of ``torch.var`` and ``torch.std`` (``kind`` "variance" and "deviation"), of all pixels."""

    def convert(
        b: Any,
        name: str,
        x: Any,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: Any = None,
    ) -> Pooled | Pair:
        dims = {dim} if isinstance(dim, int) else set(dim or ())
        whole = unbiased is False or (unbiased is None and correction == 0 and correction is not None)
        if not isinstance(x, str) or dims not in ({2, 3}, {-1, -2}) or not keepdim or not whole:
            raise UnsupportedModelError(
                f"no plan node covers a {kind} over dimensions {sorted(dims, key=str)}, keepdim={keepdim}, unbiased={unbiased}, "
                f"correction={correction} (at {name}): over pixels (2, 3), kept, without correction, for a gate"
            )
        return Pair(x, kind) if with_mean else Pooled(x, moment=kind)

    return convert


def root(b: Any, name: str, x: Any) -> Pooled:
    """Deviation from variance."""
    if isinstance(x, Pooled) and x.moment == "variance" and not x.layers:
        return replace(x, moment="deviation")
    raise UnsupportedModelError(f"no plan node covers a square root of anything but a gate's variance (at {name})")


def add(name: str, x: Any, y: Any) -> Pooled:
    """Deviation and mean of one activation."""
    found = [(v.source, v.moment, v.layers) if isinstance(v, Pooled) else None for v in (x, y)]
    source = getattr(x, "source", "")
    if set(found) != {(source, "deviation", ()), (source, "mean", ())}:
        raise UnsupportedModelError(
            f"no plan node covers this sum of pooled activations (at {name}): deviation and mean of one, for a gate"
        )
    return Pooled(source, moment="contrast")


def amax(b: Any, name: str, x: Any, dim: Any = (), keepdim: bool = False) -> Moment:
    """Largest channel of each pixel."""
    return Moment(x, "max", _check_channels(name, x, {dim} if isinstance(dim, int) else set(dim), keepdim))


def max_with_index(b: Any, name: str, x: Any, dim: Any = None, keepdim: bool = False) -> Moment:
    """The same with the channel's number beside it."""
    _check_channels(name, x, {dim}, keepdim)
    return Moment(x, "max", indexed=True)


def _check_channels(name: str, x: Any, dims: set[Any], keepdim: bool) -> bool:
    if not isinstance(x, str) or dims not in ({1}, {-3}) or not keepdim:
        raise UnsupportedModelError(
            f"no plan node covers a mean or maximum over dimensions {sorted(dims, key=str)}, keepdim={keepdim} (at {name}): "
            "channels (1) or pixels (2, 3), kept, for a gate"
        )
    return False


def item(b: Any, name: str, value: Any, index: Any) -> Moment | Pooled:
    """The values of ``max(x, 1)``, or one of variance and mean."""
    if isinstance(value, Pair) and index in (0, 1):
        return Pooled(value.source, moment="mean" if index else value.moment)
    if isinstance(value, Moment) and value.indexed and index == 0:
        return replace(value, indexed=False)
    raise UnsupportedModelError(f"no plan node covers indexing by {index} (at {name})")


def cat(name: str, values: Any) -> Moments:
    """Mean and maximum of one activation, in this order."""
    kinds = [(v.kind, v.indexed, v.source) if isinstance(v, Moment) else None for v in values]
    source = values[0].source if isinstance(values[0], Moment) else ""
    if kinds != [("mean", False, source), ("max", False, source)]:
        raise UnsupportedModelError(
            f"no plan node covers this concatenation of moments (at {name}): mean and maximum over the channels of one activation"
        )
    return Moments(source)


def conv(name: str, m: nn.Conv2d, x: Any) -> Pooled | Moments:
    """A convolution inside a gate."""
    bias = m.bias.detach() if m.bias is not None else torch.zeros(m.out_channels, dtype=m.weight.dtype)
    unpadded = m.padding in ((0, 0), "same", "valid")
    if (
        isinstance(x, Pooled)
        and x.moment in ("mean", "contrast")
        and m.kernel_size == (1, 1)
        and m.groups == 1
        and unpadded
    ):
        return replace(x, layers=(*x.layers, Layer(m.weight.detach()[:, :, 0, 0], bias)))
    half = m.kernel_size[0] // 2
    same = m.padding == "same" or m.padding == (half, half)
    plain = (
        m.kernel_size[0] == m.kernel_size[1] and m.kernel_size[0] % 2 == 1 and m.stride == m.dilation == (1, 1) and same
    )
    if isinstance(x, Moments) and x.weight is None and m.out_channels == 1 and plain and m.padding_mode == "zeros":
        return replace(x, weight=m.weight.detach(), bias=bias)
    raise UnsupportedModelError(f"no plan node covers {m} inside a gate (at {name})")


def activate(name: str, act: str, slope: Tensor | None, x: Any) -> Pooled | Moments:
    """An activation inside a gate."""
    if isinstance(x, Pooled) and x.layers and x.layers[-1].act == "none":
        return replace(x, layers=(*x.layers[:-1], replace(x.layers[-1], act=act, slope=slope)))
    if isinstance(x, Moments) and x.weight is not None and act == "sigmoid":
        return replace(x, done=True)
    raise UnsupportedModelError(f"no plan node covers {act} inside a gate (at {name})")


def multiply(name: str, x: Any, y: Any) -> ChannelGate | SpatialGate:
    """The activation times its gate."""
    # A product may be written either way round.
    image, gate = (x, y) if isinstance(x, str) else (y, x)
    if isinstance(image, str) and getattr(gate, "source", None) == image:
        if isinstance(gate, Moments) and gate.done and gate.weight is not None and gate.bias is not None:
            return SpatialGate(name, image, gate.weight, gate.bias)
        # ReLU is a PReLU of slope 0 here, as everywhere in a plan.
        if isinstance(gate, Pooled) and len(gate.layers) == 2:
            first, last = gate.layers
            weights = (first.weight, first.bias, last.weight, last.bias)
            moment: GateMoment = "mean" if gate.moment == "mean" else "contrast"
            curves: dict[str, GateCurve] = {"sigmoid": "sigmoid", "hardsigmoid": "hardsigmoid"}
            if first.act == "prelu" and first.slope is not None and last.act in curves:
                return ChannelGate(name, image, *weights, first.slope, moment=moment, curve=curves[last.act])
    raise UnsupportedModelError(
        f"no plan node covers this gate (at {name}): squeeze-excitation is x * sigmoid(conv(relu(conv(mean of x)))), also of "
        "deviation plus mean or with a hard sigmoid; spatial attention x * sigmoid(conv(mean and maximum of x over channels))"
    )
