"""Capture: from a PyTorch module to a plan of elementary nodes, by ``torch.fx``."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from torch import fx, nn

from srfast.capture_convs import Value
from srfast.capture_functional import FUNCTIONS
from srfast.capture_ops import MODULES
from srfast.errors import UnsupportedModelError
from srfast.plan import Concat, Conv, Node, Plan, Shuffle, Unshuffle

_IN_PLACE_OPERATORS = {"iadd", "isub", "imul", "itruediv"}


def capture(module: nn.Module, in_channels: int | None = None) -> Plan:
    """Traces ``module`` in eval mode into a plan; the module itself is left as it is.

    Args:
        module: takes one [N, C, H, W] image and returns one.
        in_channels: C; by default that of the first convolution.

    Raises:
        UnsupportedModelError: names the operation that no node covers.
    """
    module = copy.deepcopy(module).eval().cpu()
    try:
        graph = fx.symbolic_trace(module).graph
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedModelError(f"{type(module).__name__} cannot be traced: {reason}") from error
    builder = _Builder(module)
    for node in graph.nodes:
        builder.add(node)
    if in_channels is None:
        in_channels = _input_channels(builder.nodes, builder.input)
    if in_channels is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} has no convolution that tells its channels; give in_channels"
        )
    try:
        plan = Plan(tuple(builder.nodes), builder.input, builder.output, in_channels)
        return plan.with_nodes(builder.nodes)
    except ValueError as error:
        raise UnsupportedModelError(f"{type(module).__name__} does not make a plan: {error}") from error


def _input_channels(nodes: list[Node], name: str) -> int | None:
    """Channels of the input, from the first convolution that it reaches through nodes that keep or fold pixels."""
    folded = {name: Fraction(1)}  # channels of an activation for each channel of the input
    for node in nodes:
        if node.input not in folded or isinstance(node, Concat):
            continue
        if isinstance(node, Conv):
            return int(node.weight.shape[1] / folded[node.input])
        factor = node.factor**2 if isinstance(node, (Shuffle, Unshuffle)) else 1
        folded[node.output] = folded[node.input] * (Fraction(1, factor) if isinstance(node, Shuffle) else factor)
    return None


class _Builder:
    """Turns fx nodes into plan nodes, one at a time."""

    def __init__(self, module: nn.Module) -> None:
        self.modules = dict(module.named_modules())
        self.root = module
        self.nodes: list[Node] = []
        self.names: dict[fx.Node, Value] = {}
        self.input = self.output = ""

    def add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "output":
            self._set_output(node)
        elif node.op == "get_attr":
            self.names[node] = operator.attrgetter(str(node.target))(self.root)
        elif node.op == "call_module":
            leaf = self.modules[str(node.target)]
            convert = MODULES.get(type(leaf))
            if convert is None:
                raise UnsupportedModelError(f"no plan node covers {type(leaf).__name__} (module {node.target})")
            self._convert(node, lambda args, kwargs: convert(self, node.name, leaf, args[0]))
            self._rebind(node, bool(getattr(leaf, "inplace", False)))
        else:
            function = FUNCTIONS.get(node.target)
            if function is None:
                name = (
                    node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
                )
                raise UnsupportedModelError(f"no plan node covers the operation {name!r} (at {node.name})")
            self._convert(node, lambda args, kwargs: function(self, node.name, *args, **kwargs))
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            self._rebind(node, name in _IN_PLACE_OPERATORS or name.endswith("_") or bool(node.kwargs.get("inplace")))

    def _placeholder(self, node: fx.Node) -> None:
        if self.input:
            if node.args or node.kwargs:  # an argument with a default
                self.names[node] = node.args[0]
                return
            raise UnsupportedModelError(
                f"the network takes a second input, {node.name!r}; srfast runs one image in, one out"
            )
        self.input = self.names[node] = node.name

    def _set_output(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node) or not isinstance(self.names[result], str):
            raise UnsupportedModelError("the network must return one image")
        self.output = self.names[result]

    def _convert(self, node: fx.Node, function: Callable[[Any, Any], Value]) -> None:
        args = fx.map_arg(node.args, lambda n: self.names[n])
        kwargs = fx.map_arg(node.kwargs, lambda n: self.names[n])
        try:
            self.names[node] = function(args, kwargs)
        except (TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise UnsupportedModelError(
                f"the arguments of {node.target} (at {node.name}) are not covered: {reason}"
            ) from error

    def _rebind(self, node: fx.Node, in_place: bool) -> None:
        """After an in-place operation every name of its input means the result."""
        if in_place and isinstance(node.args[0], fx.Node):
            before = self.names[node.args[0]]
            for key, value in self.names.items():
                if isinstance(value, str) and value == before:
                    self.names[key] = self.names[node]

    def emit(self, node: Node) -> str:
        if not all(isinstance(name, str) for name in node.inputs):
            raise UnsupportedModelError(
                f"no plan node covers {type(node).__name__.lower()} of a pooled or averaged activation (at {node.output}); "
                "those are read by squeeze-excitation and spatial attention only"
            )
        self.nodes.append(node)
        return node.output
