"""Capture: from a PyTorch module to a plan of elementary nodes, by ``torch.fx``."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, fx, nn

from srfast.capture.aliases import Names
from srfast.capture.input_channels import possible_channels
from srfast.capture.ops.conv import Value
from srfast.capture.ops.elementwise import MODULES, PERHAPS_COPIES, SAME_TENSOR, VIEWS
from srfast.capture.ops.functional import FUNCTIONS
from srfast.capture.places import WHOLE, Place, place_of
from srfast.capture.trace import check_called_as_written, settled_copy, trace
from srfast.devices import on_cpu
from srfast.errors import UnsupportedModelError
from srfast.models.bordered import Bordered
from srfast.plan import ChannelGate, Node, Plan

_IN_PLACE_OPERATORS = {"iadd", "isub", "imul", "itruediv"}
_FIRST = ("input", "tensors")  # PyTorch's names of the first argument
_WRONG = (TypeError, AttributeError, ValueError, LookupError, ArithmeticError, RuntimeError)


@on_cpu
def capture(module: nn.Module, in_channels: int | None = None, *, input_may_change: bool = True) -> Plan:
    """Traces ``module`` in eval mode into a plan; the module itself is left as it is.

    Args:
        module: takes one [N, C, H, W] image and returns one.
        in_channels: C; by default what its layers ask for, and 3 where they take any.
        input_may_change: False refuses operations that change the image itself in place, which a plan leaves as it is.

    Raises:
        UnsupportedModelError: names the operation that no node covers.

    Examples:
        >>> plan = capture(nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)))
        >>> [type(node).__name__ for node in plan.nodes], plan.scale
        (['Conv', 'Shuffle'], 2)
    """
    name = type(module).__name__
    module = settled_copy(module)
    builder = Builder(module, input_may_change)
    for node in trace(module).nodes:
        builder.add(node)
    wrong: list[ValueError] = []
    # Nodes are made before the number of channels is known; the first number with which all shapes fit is the network's.
    for channels in possible_channels(builder.nodes, builder.input) if in_channels is None else (in_channels,):
        try:
            plan = Plan(tuple(builder.nodes), builder.input, builder.output, channels)
            return with_border(plan.with_nodes(builder.nodes), module, builder.place(builder.output))
        except ValueError as error:
            wrong.append(error)
    raise UnsupportedModelError(f"{name} does not make a plan: {wrong[0]}") from wrong[0]


def with_border(plan: Plan, module: nn.Module, place: Place) -> Plan:
    """The plan with the border that the module takes, whose pixels must be those that its result is short of.

    Raises:
        UnsupportedModelError: they are not.
    """
    border, multiple = (module.border, module.multiple) if isinstance(module, Bordered) else (0, plan.alignment)
    if multiple % plan.alignment:
        raise UnsupportedModelError(
            f"{type(module).__name__} takes sides that are multiples of {multiple}, but its operations ask for {plan.alignment}"
        )
    if place != Place(plan.scale * border, plan.scale * border):
        raise UnsupportedModelError(
            f"{type(module).__name__} gives {place.before} and {place.after} pixels less at the borders than {plan.scale} "
            f"times the image, not {plan.scale * border}: pad its convolutions, or give it a border (srfast.models.Bordered)"
        )
    # What the module pads to beyond what its operations need, they see in the pixels at the bottom and right.
    return replace(plan, border=border, multiple=multiple if multiple > plan.alignment else plan.multiple)


class Builder:
    """Turns fx nodes into plan nodes, one at a time."""

    def __init__(self, module: nn.Module, input_may_change: bool) -> None:
        self.modules = dict(module.named_modules())
        self.root = module
        self.input_may_change = input_may_change
        self.nodes: list[Node] = []
        self.names = Names()
        self.places: dict[str, Place] = {}
        self.image: fx.Node | None = None
        self.input = self.output = ""

    def add(self, node: fx.Node) -> None:
        """Add what a node of the trace does to the plan.

        Raises:
            UnsupportedModelError: no operation of a plan does it; the message names the layer.
        """
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "output":
            self._set_output(node)
        elif node.op == "get_attr":
            self.names.bind(node, operator.attrgetter(str(node.target))(self.root))
        elif node.op == "call_module":
            self._call_module(node, self.modules[str(node.target)])
        else:
            self._call_function(node)

    def _placeholder(self, node: fx.Node) -> None:
        if self.input:
            if node.args or node.kwargs:  # an argument with a default
                self.names.bind(node, node.args[0])
                return
            raise UnsupportedModelError(
                f"the network takes a second input, {node.name!r}; srfast runs one image in, one out"
            )
        self.image, self.input = node, node.name
        self.places[node.name] = WHOLE
        self.names.bind(node, node.name)

    def _set_output(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node) or not isinstance(self.names[result], str):
            raise UnsupportedModelError("the network must return one image")
        self.output = self.names[result]

    def _call_module(self, node: fx.Node, leaf: nn.Module) -> None:
        convert = MODULES.get(type(leaf))
        if convert is None:
            raise UnsupportedModelError(f"no plan node covers {type(leaf).__name__} (module {node.target})")
        check_called_as_written(leaf, f"module {node.target}")

        def call(*args: Any, **kwargs: Any) -> Value:
            # Bound by PyTorch's own signature: an option given by position is found as well as one given by name.
            x, *others = inspect.signature(leaf.forward).bind(*args, **kwargs).arguments.values()
            if any(value is not None for value in others):
                raise UnsupportedModelError(
                    f"no plan node covers {type(leaf).__name__} with more than an image (module {node.target}): {others}"
                )
            return convert(self, node.name, leaf, x)

        in_place = bool(getattr(leaf, "inplace", False))
        self._convert(node, type(leaf), call, lambda *args, **kwargs: in_place)

    def _call_function(self, node: fx.Node) -> None:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        function = FUNCTIONS.get(node.target)
        if function is None:
            raise UnsupportedModelError(f"no plan node covers the operation {name!r} (at {node.name})")

        def in_place(*args: Any, **kwargs: Any) -> bool:
            given = inspect.signature(function).bind(self, node.name, *args, **kwargs).arguments
            return name in _IN_PLACE_OPERATORS or name.endswith("_") or bool(given.get("inplace"))

        self._convert(node, node.target, lambda *args, **kwargs: function(self, node.name, *args, **kwargs), in_place)

    def _convert(self, node: fx.Node, kind: Any, call: Callable[..., Value], in_place: Callable[..., bool]) -> None:
        """Calls the converter, and keeps account of the memory of what the operation gives."""
        args, kwargs = _arguments(node)
        try:
            values: Any = fx.map_arg(args, lambda n: self.names[n])
            options: Any = fx.map_arg(kwargs, lambda n: self.names[n])
            changes = in_place(*values, **options)
            if changes:
                self._check_may_change(node, args[0])
            value = call(*values, **options)
        except _WRONG as error:
            reason = " ".join(str(error).split())
            raise UnsupportedModelError(
                f"the arguments of {node.target} (at {node.name}) are not covered: {reason}"
            ) from error
        source = args[0] if args and isinstance(args[0], fx.Node) else None
        if source is not None and (kind in SAME_TENSOR or kind in PERHAPS_COPIES):
            self.names.share(node, source, kind in SAME_TENSOR)
        elif source is not None and changes:
            self.names.change(node, source, value)
        elif source is not None and kind in VIEWS:
            self.names.view(node, source, value)
        else:
            self.names.bind(node, value)

    def _check_may_change(self, node: fx.Node, source: Any) -> None:
        if not isinstance(source, fx.Node) or isinstance(self.names[source], Tensor):
            raise UnsupportedModelError(
                f"the network changes a stored tensor, {source} (at {node.name}), as normalisation does in training; "
                "srfast runs fixed functions only: call eval()"
            )
        if not self.input_may_change and self.image and self.names.may_share_memory(source, self.image):
            raise UnsupportedModelError(f"the network changes its input in place (at {node.name}): use a copy of it")

    def place(self, name: str) -> Place:
        """Where the pixels of an activation lie; anything else is refused when a node reads it."""
        return self.places.get(name, WHOLE) if isinstance(name, str) else WHOLE

    def emit(self, node: Node, place: Place | None = None) -> str:
        """Append an operation and return the name of its output.

        Args:
            node: the operation.
            place: where its values lie in the image, where that is not what its inputs say.

        Raises:
            UnsupportedModelError: an input is no activation.
        """
        for value in node.inputs:
            if not isinstance(value, str):
                what = (
                    "a stored value" if isinstance(value, (Tensor, int, float)) else "a pooled or averaged activation"
                )
                raise UnsupportedModelError(
                    f"no plan node covers {type(node).__name__.lower()} of {what} (at {node.output}); pooled or averaged "
                    "activations are read by squeeze-excitation and spatial attention only, stored values beside an activation"
                )
        if isinstance(node, ChannelGate):
            lies = self.place(node.input)
            node = replace(node, inset=(lies.before, lies.after))
        self.nodes.append(node)
        self.places[node.output] = place_of(node, self.places) if place is None else place
        return node.output


def _arguments(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Those of the call, by the names that the converters give them."""
    args, kwargs = node.args, dict(node.kwargs)
    for first in _FIRST:
        if not args and first in kwargs:
            args = (kwargs.pop(first),)
    if "other" in kwargs and node.op != "call_module":
        kwargs["y"] = kwargs.pop("other")
    return args, kwargs
