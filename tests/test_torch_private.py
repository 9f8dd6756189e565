"""Private names of PyTorch: each is there and does what srfast takes it for, and no other file uses one."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from srfast import _torch_private as private

GLOBAL = torch.ones(3)
ROOT = Path(private.__file__).parent
# A pickle's own words, and the attribute that a user's module may have, both the same as ours.
NO_USE = {"checkpoint/formats/pickle_guard.py"}


def _private(path: Path) -> set[str]:
    """Attributes with one underscore in front, of anything but ``self`` and ``cls``."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


def _of_torch(path: Path) -> set[str]:
    """Private names that are reached from ``torch`` by dots, as far as the source shows."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            inner: ast.expr = node.value
            while isinstance(inner, ast.Attribute):
                inner = inner.value
            if isinstance(inner, ast.Name) and inner.id in ("torch", "nn", "F", "fx"):
                found.add(node.attr)
    return found


def test_no_other_file_uses_one() -> None:
    own = _private(ROOT / "_torch_private.py")
    assert {"_version", "_forward_hooks", "_convolution_pointwise_"} <= own
    for folder in ("", "kernels", "training"):  # links are not followed by rglob
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name not in {"_torch_private.py", *NO_USE}:
                assert not _private(path) & own, name
                assert not _of_torch(path), name


@pytest.mark.parametrize("name", ["avx2", "avx512", "avx512_bf16", "amx_tile"])
def test_cpu_has(name: str) -> None:
    assert private.cpu_has(name) in (True, False)


def test_change_count() -> None:
    x = torch.zeros(3)
    before = private.change_count(x)
    x.add_(1)
    assert private.change_count(x) == before + 1


def test_hooks_of_a_module() -> None:
    module = nn.Conv2d(1, 1, 1)
    assert not private.forward_hooks(module)
    before = module.register_forward_pre_hook(lambda module, args: None)
    after = module.register_forward_hook(lambda module, args, output: None)
    assert set(private.forward_hooks(module)) == {before.id, after.id}
    private.remove_hook(module, before.id)
    private.remove_hook(module, after.id)
    assert not private.forward_hooks(module)


def test_hooks_on_all_modules() -> None:
    assert private.hooks_on_all_modules() == []
    hooks = [
        nn.modules.module.register_module_forward_pre_hook(lambda module, args: None),
        nn.modules.module.register_module_forward_hook(lambda module, args, output: None),
    ]
    try:
        assert len(private.hooks_on_all_modules()) == 2
    finally:
        for hook in hooks:
            hook.remove()


def test_pruned_name() -> None:
    module = nn.Conv2d(1, 1, 3)
    prune.l1_unstructured(module, "bias", 0.5)
    (hook,) = private.forward_hooks(module).values()
    assert isinstance(hook, prune.BasePruningMethod)
    assert private.pruned_name(hook) == "bias"


@pytest.mark.skipif(not private.has_onednn_operators(), reason="PyTorch was built without oneDNN")
@pytest.mark.parametrize("in_place", [False, True])
def test_onednn_convolutions(in_place: bool) -> None:
    """float32 on the CPU, against PyTorch's own convolution in float64."""
    generator = torch.Generator().manual_seed(0)
    x, other = (
        torch.randn(2, 8, 5, 7, generator=generator).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )
    weight, bias = torch.randn(8, 8, 3, 3, generator=generator), torch.randn(8, generator=generator)
    packed = private.packed_for_onednn(weight, 1)
    wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)

    def close(y: Tensor, exact: Tensor) -> bool:
        return bool((y.double() - exact).abs().max() < 1e-4)

    assert close(private.onednn_conv(x, packed, bias, 1, "none", []), wanted)
    assert close(private.onednn_conv(x, packed, bias, 1, "leaky_relu", [0.25]), F.leaky_relu(wanted, 0.25))
    exact = wanted + other.double()
    y = private.onednn_conv_add(x, other, packed, bias, 1, in_place)
    assert close(y, exact)
    assert (y.data_ptr() == other.data_ptr()) is in_place


def test_is_kept_by_module() -> None:
    """What TorchDynamo calls the inputs of a graph: a module's tensor and a global one are no arguments."""
    found: dict[str, bool] = {}

    def backend(graph: torch.fx.GraphModule, examples: list[Tensor]) -> Callable[..., Any]:
        nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
        found.update({node.name: private.is_kept_by_module(node) for node in nodes})
        return graph.forward

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept, self.more = torch.rand(3), [torch.rand(3)]

        def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
            return x * others[0] + self.kept * self.more[0] + GLOBAL

    torch._dynamo.reset()
    torch.compile(Module(), backend=backend)(torch.rand(3), [torch.rand(3)])
    assert sorted(found.values()) == [False, False, True, True, True]
    assert not any(kept for name, kept in found.items() if "others" in name or "l_x" in name)
