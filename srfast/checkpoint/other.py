"""Networks that srfast has no reader for, through spandrel where it is installed (``pip install 'srfast[any]'``).

The file is read by srfast, tensors alone; spandrel is given those, tells the architecture from their names and builds it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from srfast.errors import CheckpointError, printable

HINT = "pip install 'srfast[any]' reads more kinds"


class Adapted(nn.Module):
    """Another library's network for images in 0..1.

    Args:
        model: the network.
        scale: output pixels per input pixel along one side.
        multiple: of what the sides of an image have to be multiples.
    """

    def __init__(self, model: nn.Module, scale: int, multiple: int) -> None:
        super().__init__()
        self.model, self.scale, self.multiple = model, scale, multiple

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] in 0..1 -> [N, C', scale*H, scale*W], not clamped."""
        y: Tensor = self.model(x)
        return y


@dataclass(frozen=True)
class Other:
    """What spandrel made of a file."""

    module: Adapted
    architecture: str


def is_installed() -> bool:
    """Whether spandrel can be imported here."""
    return importlib.util.find_spec("spandrel") is not None


def read_other(state: Mapping[str, Tensor]) -> Other | None:
    """Build a network of an architecture that spandrel knows.

    Args:
        state: tensors by name, without wrappers.

    Returns:
        The network in eval mode, float32, on the CPU; None where spandrel does not know it.

    Raises:
        CheckpointError: its values are not finite, it is no network from one image to one, or it does not fit its tensors.
    """
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    _check(state)
    try:
        found = ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except UnsupportedModelError:
        return None
    except Exception as error:  # whatever a network's constructor raises for odd shapes
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"spandrel cannot build it: {printable(reason, 200)}") from error
    name = str(found.architecture.name)
    if not isinstance(found, ImageModelDescriptor):
        raise CheckpointError(f"it is {name}, which takes more than an image")
    size = found.size_requirements
    if size.square:
        raise CheckpointError(f"it is {name}, which takes square images only")
    model = found.model.float().eval().requires_grad_(False)
    # What is smaller than the least size is mirrored to it, and so is what lies between its multiples.
    return Other(Adapted(model, found.scale, max(size.multiple_of, size.minimum, 1)).eval(), name)


def _check(state: Mapping[str, Tensor]) -> None:
    """As for known networks, but that some keep whole numbers beside their weights, such as tables of positions."""
    for key, value in state.items():
        if value.is_sparse or value.is_quantized or value.is_complex():
            raise CheckpointError(f"{printable(key, 80)} holds {str(value.dtype).removeprefix('torch.')}, no weights")
        if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
            raise CheckpointError(f"{printable(key, 80)} has NaN or infinite values; it cannot give an image")


def facts(other: Other) -> dict[str, Any]:
    """What ``LoadedModel`` says of it."""
    return {
        "module": other.module,
        "architecture": other.architecture,
        "scale": other.module.scale,
        "layout": "spandrel",
        "values": "0..1",
    }
