"""The plan: the short list of operations into which srfast turns a network. It knows no backend and no file format."""

from __future__ import annotations

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
    InstanceNorm,
    Multiply,
    Node,
    Pool,
    Resize,
    ResizeMode,
    Shuffle,
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
    "InstanceNorm",
    "Multiply",
    "Node",
    "Plan",
    "Pool",
    "Resize",
    "ResizeMode",
    "Shape",
    "Shuffle",
    "SpatialGate",
    "Unshuffle",
]
