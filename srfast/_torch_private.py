"""Every name of PyTorch that srfast uses though PyTorch does not promise to keep it, in one place.

Each was checked with PyTorch 2.13.0 (``tests/test_torch_private.py`` does it again with the installed one), so that a new
PyTorch that drops one fails in one file and one test, not somewhere in a backend. Names inside pickles (``torch._utils``, in
``checkpoint.formats.pickle_guard``) are no use of PyTorch: they are what files say, and stay whatever PyTorch does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.modules.module as hooks_of_all
from torch import Tensor, fx, nn
from torch.nn.utils.prune import BasePruningMethod

# What the fused operators take after the padding: stride, dilation, groups.
_STRIDE_DILATION_GROUPS: tuple[Any, ...] = ([1, 1], [1, 1], 1)


def cpu_has(name: str) -> bool:
    """Whether the CPU and the operating system offer "avx2", "avx512", "avx512_bf16" or "amx_tile"; cpuinfo knows."""
    supported: bool = getattr(torch.cpu, f"_is_{name}_supported")()
    return supported


def change_count(tensor: Tensor) -> int:
    """How often a tensor was written to in place; autograd keeps it, and there is no public way to ask."""
    return tensor._version


def forward_hooks(module: nn.Module) -> dict[int, Callable[..., Any]]:
    """Hooks that run before or after the forward() of one module; the keys, which no two hooks share, serve ``remove_hook``."""
    return {**module._forward_pre_hooks, **module._forward_hooks}


def remove_hook(module: nn.Module, key: int) -> None:
    """Removes one of ``forward_hooks``."""
    module._forward_pre_hooks.pop(key, None)
    module._forward_hooks.pop(key, None)


def pruned_name(hook: BasePruningMethod) -> str:
    """The name of the tensor that a hook of ``torch.nn.utils.prune`` prunes."""
    return hook._tensor_name


def hooks_on_all_modules() -> list[Callable[..., Any]]:
    """Hooks that run before or after the forward() of whatever module there is."""
    return [*hooks_of_all._global_forward_pre_hooks.values(), *hooks_of_all._global_forward_hooks.values()]


def is_kept_by_module(node: fx.Node) -> bool:
    """Whether an input of a graph of TorchDynamo is no argument: it is kept by a module, a closure or a global name."""
    source = getattr(node.meta.get("grapharg"), "source", None)
    while source is not None:
        kind = type(source).__name__
        if "NNModule" in kind or kind == "GlobalSource" or getattr(source, "is_derefed_cell_contents", False):
            return True
        source = getattr(source, "base", None)
    return False


def has_onednn_operators() -> bool:
    """Whether this build has the fused convolutions that PyTorch's own compiler calls."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def packed_for_onednn(weight: Tensor, padding: int) -> Tensor:
    """The weight in the blocked order that oneDNN chooses for this CPU."""
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        weight, [padding, padding], *_STRIDE_DILATION_GROUPS, None
    )
    return packed


def onednn_conv(x: Tensor, packed: Tensor, bias: Tensor, padding: int, act: str, scalars: list[float]) -> Tensor:
    """A convolution of stride 1 and an activation in one pass; ``scalars`` are the activation's own numbers."""
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, [padding, padding], *_STRIDE_DILATION_GROUPS, act, scalars, ""
    )
    return y


def onednn_conv_add(x: Tensor, other: Tensor, packed: Tensor, bias: Tensor, padding: int, in_place: bool) -> Tensor:
    """A convolution of stride 1 plus ``other`` in one pass, written over ``other`` where that may go."""
    ops: Any = torch.ops.mkldnn
    # The operator that ends in "_" takes what it writes over first, the other one last.
    convolve = ops._convolution_pointwise_.binary if in_place else ops._convolution_pointwise.binary
    images = (other, x) if in_place else (x, other)
    y: Tensor = convolve(
        *images, packed, bias, [padding, padding], *_STRIDE_DILATION_GROUPS, "add", 1.0, None, [], None
    )
    return y
