"""The plan: the short list of operations into which srfast turns a network. It knows no backend and no file format."""

from __future__ import annotations

from srfast.plan.base import Node
from srfast.plan.graph import Plan
from srfast.plan.nodes import (
    Act,
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Conv,
    Depthwise,
    Eager,
    GroupNorm,
    InstanceNorm,
    Multiply,
    PixelNorm,
    Pool,
    Resize,
    ResizeMode,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)
from srfast.plan.shapes import Shape

__all__ = [
    "Act",
    "Activate",
    "Add",
    "Affine",
    "ChannelGate",
    "Clamp",
    "Concat",
    "Conv",
    "Depthwise",
    "Eager",
    "GroupNorm",
    "InstanceNorm",
    "Multiply",
    "Node",
    "PixelNorm",
    "Plan",
    "Pool",
    "Resize",
    "ResizeMode",
    "Shape",
    "Shuffle",
    "Slice",
    "SpatialGate",
    "Unshuffle",
]
