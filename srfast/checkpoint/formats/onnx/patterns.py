"""Layers that exporters take apart, found in the graph of a network and put together again."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F


def simplify(graph: fx.Graph, root: nn.Module) -> None:
    """Puts ``x * tanh(softplus(x))`` together as Mish, and the exact GELU with its five operations."""
    for node in list(graph.nodes):
        found = _mish(node, root) or _gelu(node)
        if found is not None:
            function, source = found
            with graph.inserting_before(node):
                new = graph.call_function(function, (source,))
            node.replace_all_uses_with(new)
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)


def _mish(node: Any, root: nn.Module) -> tuple[Any, Any] | None:
    """``x * tanh(softplus(x))``, either way round."""
    if node.op != "call_function" or node.target is not operator.mul:
        return None
    for x, gate in (node.args, node.args[::-1]):
        inner = _source_of(gate, nn.Tanh, root)
        if inner is not None and _source_of(inner, nn.Softplus, root) is x:
            return F.mish, x
    return None


def _source_of(node: Any, kind: type[nn.Module], root: nn.Module) -> Any:
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return node.args[0] if isinstance(root.get_submodule(str(node.target)), kind) else None


def _gelu(node: Any) -> tuple[Any, Any] | None:
    """``x * (erf(x / sqrt(2)) + 1) * 0.5``, in any order of the factors."""
    factors, number = _factors(node)
    if len(factors) != 2 or not math.isclose(number, 0.5, rel_tol=1e-4):
        return None
    for x, gate in (factors, factors[::-1]):
        one, erf = _numbered(gate, operator.add)
        if one != 1 or getattr(erf, "target", None) is not torch.erf:
            continue
        inside, by = _factors(erf.args[0])
        if inside == [x] and math.isclose(by, math.sqrt(0.5), rel_tol=1e-3):
            return F.gelu, x
    return None


def _factors(node: Any, depth: int = 3) -> tuple[list[Any], float]:
    """Images and the number of a product; what is deeper than ``depth`` products counts as one image."""
    if isinstance(node, (int, float)):
        return [], float(node)
    if not isinstance(node, fx.Node) or depth == 0 or node.target not in (operator.mul, operator.truediv):
        return [node], 1.0
    left, right = _factors(node.args[0], depth - 1), node.args[1]
    if node.target is operator.truediv:
        return (left[0], left[1] / right) if isinstance(right, (int, float)) and right else ([node], 1.0)
    other = _factors(right, depth - 1)
    return [*left[0], *other[0]], left[1] * other[1]


def _numbered(node: Any, target: Any) -> tuple[float | None, Any]:
    """The number and the image of a sum."""
    if isinstance(node, fx.Node) and node.target is target:
        for number, image in (node.args, node.args[::-1]):
            if isinstance(number, (int, float)):
                return float(number), image
    return None, None
