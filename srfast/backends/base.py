"""What every backend offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from srfast.kernels.planes import Planes
from srfast.plan import Activate, GroupNorm, PixelNorm, Plan, Resize, Slice

# How an executable needs its windows; each is an attribute that it may have:
#   alignment: windows start at multiples of it (default 1), for results that do not depend on the tiling;
#   halo: input pixels around a part for the same purpose (default: the plan's receptive field);
#   fill: input pixels of a launch that keep the device busy; smaller windows go together (default 1: one at a time);
#   exact: results are the same bits for any window with that alignment and halo (default False);
#   bytes_per_pixel: memory for each input pixel of a window (default: as if every activation were whole).
# [N, C, H, W] of the compiled dtype and device, in any memory format -> [N, C', s*H, s*W] of the same.
Executable: TypeAlias = Callable[[Tensor], Tensor]


@runtime_checkable
class FrameExecutable(Protocol):
    """An executable that converts integer frames in its own kernels as well."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def run_frames(self, frames: Tensor, gain: float, units: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        """[N, H, W, C] uint8 or uint16, times ``gain``, through the network whose white is ``units``.

        ``bgr`` says that the frames' channels, in and out, are in the reverse of the network's order.

        Returns:
            [N, s*H, s*W, C'] of the frames' dtype on the compiled device, rounded to nearest and limited to the range,
            overwritten by the next call; and a [1] integer tensor, not 0 where a value was NaN or infinite.
        """
        ...


@runtime_checkable
class PlaneExecutable(Protocol):
    """An executable that converts video planes in its own kernels as well."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def run_planes(self, planes: Planes, peak: float, units: float) -> tuple[Planes, Tensor]:
        """``planes``, white as ``peak``, through the network whose white is ``units``.

        Returns:
            Planes of the larger picture and a flag, as ``FrameExecutable.run_frames`` gives them.
        """
        ...


class Backend(Protocol):
    """A way to run plans."""

    @property
    def name(self) -> str: ...

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Why this backend cannot run the plan there; an empty list means that it can."""
        ...

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        """Packs the weights once and returns the function that runs the plan."""
        ...


def reference_only(plan: Plan) -> list[str]:
    """Operations of the plan that no compiled kernel has, in the words of a reason; the reference backend runs them."""
    found = {
        "it has no kernel that resizes by a fraction": lambda n: (
            isinstance(n, Resize) and not isinstance(n.factor, int)
        ),
        "it has no kernel for Mish": lambda n: isinstance(n, Activate) and n.act == "mish",
        "it has no kernel for a slice of channels": lambda n: isinstance(n, Slice),
        "it has no kernel that normalises pixels or groups": lambda n: isinstance(n, (PixelNorm, GroupNorm)),
    }
    return [reason for reason, is_one in found.items() if any(map(is_one, plan.nodes))]


def release_after(plan: Plan) -> list[list[str]]:
    """For each node, the activations that nothing reads after it."""
    last = {name: i for i, node in enumerate(plan.nodes) for name in node.inputs}
    return [
        [name for name in set(node.inputs) if last[name] == i and name != plan.output]
        for i, node in enumerate(plan.nodes)
    ]
