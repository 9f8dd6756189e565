"""What every backend offers: a function that runs a plan, and what its tiles must be like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from srfast.kernels.planes import Planes
from srfast.plan import Conv, Eager, Node, Plan, Resize


@dataclass(frozen=True)
class TilingTraits:
    """What an executable asks of the windows that it is given, so that results do not depend on the tiling.

    Attributes:
        alignment: windows start at multiples of so many input pixels.
        halo: input pixels around a part that its result depends on; None for the whole image, which cannot be tiled.
        exact: whether results are the same bits for any window with that alignment and halo.
        min_pixels: input pixels of one launch that keep the device busy; smaller windows are put together.
        bytes_per_pixel: memory for each input pixel of a window; None: as if every live activation were whole.
    """

    alignment: int
    halo: int | None
    exact: bool = False
    min_pixels: int = 1
    bytes_per_pixel: int | None = None

    @classmethod
    def of(cls, plan: Plan, min_pixels: int = 1) -> TilingTraits:
        """Return the traits of a backend that computes every pixel of ``plan`` for itself."""
        return cls(plan.alignment, plan.halo(), min_pixels=min_pixels)


class Executable(ABC):
    """A compiled plan.

    Args:
        traits: what its windows must be like.

    Attributes:
        path: what the bits of its results depend on besides plan, dtype and backend, as an instruction set; None where
            these say all.
    """

    path: str | None = None

    def __init__(self, traits: TilingTraits) -> None:
        self.traits = traits

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Run the plan.

        Args:
            x: [N, C, H, W] of the compiled dtype and device, in any memory format, H and W multiples of the plan's
                alignment.

        Returns:
            [N, C', s*H, s*W] of the same dtype and device, a new tensor.
        """


class FunctionExecutable(Executable):
    """A plan that a plain function runs, for backends without conversions of their own."""

    def __init__(self, run: Callable[[Tensor], Tensor], traits: TilingTraits) -> None:
        super().__init__(traits)
        self._run = run

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x)


class FrameExecutable(Executable):
    """An executable that converts integer frames in its own kernels as well."""

    @abstractmethod
    def run_frames(self, frames: Tensor, gain: float, white: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        """Run the plan on integer frames.

        Args:
            frames: [N, H, W, C] uint8 or uint16.
            gain: what they are multiplied by on the way in.
            white: the value that the network gives for white.
            bgr: the frames' channels, in and out, are in the reverse of the network's order.

        Returns:
            [N, s*H, s*W, C'] of the frames' dtype on the compiled device, rounded to nearest and limited to the range,
            overwritten by the next call; and a [1] integer tensor, not 0 where a value was NaN or infinite.
        """


class PlaneExecutable(Executable):
    """An executable that converts video planes in its own kernels as well."""

    @abstractmethod
    def run_planes(self, planes: Planes, peak: float, white: float) -> tuple[Planes, Tensor]:
        """Run the plan on video planes.

        Args:
            planes: of a picture in 4:2:0.
            peak: the value that the network takes for white.
            white: the value that it gives for white.

        Returns:
            Planes of the larger picture and a flag, as ``FrameExecutable.run_frames`` gives them.
        """


class Backend(Protocol):
    """A way to run plans."""

    @property
    def name(self) -> str:
        """Return what ``--backend`` and messages call it."""
        ...

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Why this backend cannot run the plan there; an empty list means that it can."""
        ...

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        """Packs the weights once and returns the function that runs the plan."""
        ...


class Candidate(Backend, Protocol):
    """A backend that ``select_backend`` may choose by itself."""

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Say why this backend runs no plan at all there; an empty list means that the plan decides."""
        ...


_WITHOUT_KERNELS: dict[str, Callable[[Node], bool]] = {
    "it has no kernel that resizes by a fraction": lambda n: isinstance(n, Resize) and not isinstance(n.factor, int),
    "PyTorch runs a part of it": lambda n: isinstance(n, Eager),
}


def has_no_kernel(node: Node) -> bool:
    """Whether no compiled kernel has the operation."""
    return any(is_one(node) for is_one in _WITHOUT_KERNELS.values())


def reference_only(plan: Plan) -> list[str]:
    """Operations of the plan that no compiled kernel has, in the words of a reason; the reference backend runs them."""
    return [reason for reason, is_one in _WITHOUT_KERNELS.items() if any(map(is_one, plan.nodes))]


def enlarged_residuals(plan: Plan) -> dict[str, tuple[str, int]]:
    """Nearest enlargements that only residuals read, with what they enlarge and the factor: convolutions do it on the way."""
    found = {}
    for node in plan.nodes:
        if isinstance(node, Resize) and node.mode == "nearest" and node.output != plan.output:
            readers = plan.users(node.output)
            # A convolution's own sources would have to be enlarged for its neighbouring pixels as well.
            if readers and all(isinstance(n, Conv) and node.output not in n.sources for n in readers):
                found[node.output] = (node.input, int(node.factor))
    return found


def release_after(plan: Plan) -> list[list[str]]:
    """For each node, the activations that nothing reads after it."""
    last = {name: i for i, node in enumerate(plan.nodes) for name in node.inputs}
    return [
        [name for name in set(node.inputs) if last[name] == i and name != plan.output]
        for i, node in enumerate(plan.nodes)
    ]
