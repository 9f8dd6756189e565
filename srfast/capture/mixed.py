"""Networks of which a part is covered by no plan node: that part becomes ``Eager`` nodes, modules that PyTorch runs.

The traced graph is walked as for any network. What no converter covers stays as it is traced, until something that is covered
asks for its result; then the operations from the plan's activations to there become one module. Modules that cannot be traced,
as their code depends on sizes, are single operations of that graph. How large results are is found by running the graph on
two images of different sizes.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn

from srfast.capture.build import Builder, with_border
from srfast.capture.ops.elementwise import MODULES
from srfast.capture.ops.functional import FUNCTIONS
from srfast.capture.trace import settled_copy, trace_with_leaves
from srfast.errors import UnsupportedModelError
from srfast.models.bordered import Bordered
from srfast.plan import Eager, Plan
from srfast.plan.shapes import Ratio, ratio

# What a network may ask the sides of its images to be multiples of, where it does not say so itself.
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_CHANNELS = (3, 1, 4, 2, 6, 12)
# Heavy operations, worth kernels of srfast's own behind what PyTorch gives; others stay with it.
_HEAVY = (nn.Conv2d, nn.ConvTranspose2d, nn.PixelShuffle)
_HEAVY_FUNCTIONS = (torch.conv2d, torch.nn.functional.conv2d, torch.nn.functional.pixel_shuffle)
_IN_PLACE_OPERATORS = {"iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor"}


@dataclass(frozen=True)
class Probe:
    """Two sizes that a network takes, and what it gives for them.

    Attributes:
        channels: of the image.
        multiple: of what the sides have to be multiples.
        images: [1, C, H, W] and [2, C, H', W'], of different forms.
        results: of the network for them.
    """

    channels: int
    multiple: int
    images: tuple[Tensor, Tensor]
    results: tuple[Tensor, Tensor]

    @property
    def scale(self) -> int:
        """Return the enlargement that the results show."""
        return self.results[0].shape[2] // self.images[0].shape[2]


def probed(module: nn.Module, in_channels: int | None) -> Probe:
    """Run the network on images of two sizes.

    Raises:
        UnsupportedModelError: it takes no image, gives none enlarged by a whole factor, or is no fixed function of it.
    """
    told = getattr(module, "multiple", None)
    multiples = (told,) if isinstance(told, int) else _MULTIPLES
    problem = ""
    for channels in _CHANNELS if in_channels is None else (in_channels,):
        # The smallest multiple that works is the true one: a network that takes any size is found at 1 and not padded for
        # nothing.
        for multiple in multiples:
            # About 25 pixels: enough for the borders of usual kernels, little enough to run a large network twice.
            count = -(-25 // multiple)
            sides = ((count, count + 1), (count + 1, count + 3))
            generator = torch.Generator().manual_seed(0)
            images = tuple(
                torch.rand(
                    n + 1, channels, *(side * multiple for side in sides[n]), generator=generator, dtype=torch.float32
                )
                for n in range(2)
            )
            try:
                results = tuple(_run(module, image) for image in images)
            except UnsupportedModelError:
                raise
            except Exception as error:  # the module's own code runs here
                problem = problem or " ".join(str(error).split())[:200]
                continue
            if _enlarged(images, results):
                return Probe(channels, multiple, (images[0], images[1]), (results[0], results[1]))
            problem = problem or f"it gives {[list(y.shape) for y in results]} of {[list(x.shape) for x in images]}"
    raise UnsupportedModelError(f"{type(module).__name__} does not run on an image by itself: {problem}")


@torch.inference_mode()
def _run(module: nn.Module, image: Tensor) -> Tensor:
    """Of a module that must be a fixed function.

    Raises:
        UnsupportedModelError: it draws random numbers, or changes its own tensors.
    """
    before = torch.random.get_rng_state()
    with torch.autocast("cpu", enabled=False):  # float32 is what the plan is compared in
        first = module(image.clone())
    # A network with dropout left on, or with noise, gives another result each time; whatever runs it then would look wrong.
    if not torch.equal(before, torch.random.get_rng_state()):
        raise UnsupportedModelError(f"{type(module).__name__} draws random numbers; srfast runs fixed functions only")
    if not isinstance(first, Tensor) or first.ndim != 4:
        raise UnsupportedModelError("the network must return one image")
    return first.clone()


def _enlarged(images: Sequence[Tensor], results: Sequence[Tensor]) -> bool:
    factors = {Fraction(y.shape[dim], x.shape[dim]) for x, y in zip(images, results, strict=True) for dim in (2, 3)}
    counts = all(len(x) == len(y) for x, y in zip(images, results, strict=True))
    return counts and len(factors) == 1 and next(iter(factors)).denominator == 1 and results[0].shape[1] > 0


def settled(module: nn.Module) -> nn.Module:
    """A copy in eval mode and float32, as every plan is made from.

    Raises:
        UnsupportedModelError: a part of it stays in training mode, or it does not let itself be copied.
    """
    copied = settled_copy(module)
    for name, part in copied.named_modules():
        if part.training:
            raise UnsupportedModelError(
                f"module {name} ({type(part).__name__}) stays in training mode after eval(); srfast runs eval mode only"
            )
    # Weights may be in any floating type; a network with some in half precision takes no images of another.
    return copied.float()


def whole(module: nn.Module, probe: Probe) -> Plan:
    """The plan of one node: the network as PyTorch runs it. ``module`` is a settled copy."""
    node = Eager(
        "output",
        "image",
        (),
        module,
        (probe.channels,),
        probe.results[0].shape[1],
        probe.scale,
        type(module).__name__,
        digest(module),
    )
    return Plan((node,), "image", "output", probe.channels, multiple=probe.multiple)


def mixed(module: nn.Module, probe: Probe) -> Plan:
    """The plan of srfast's operations with those that PyTorch runs between. ``module`` is a settled copy.

    Raises:
        UnsupportedModelError: no part of the network is covered, or it changes tensors in place where none is.
    """
    if isinstance(module, Bordered):
        raise UnsupportedModelError("a network with a border of its own is run whole")
    graph = trace_with_leaves(module)
    traced = fx.GraphModule(module, graph)
    shapes = _Shapes(traced, probe)
    builder = _MixedBuilder(module, traced, shapes)
    for node in graph.nodes:
        builder.add(node)
    plan = Plan(tuple(builder.nodes), builder.input, builder.output, probe.channels, multiple=probe.multiple)
    return with_border(plan.with_nodes(builder.nodes), module, builder.place(builder.output))


def digest(module: nn.Module) -> str:
    """Hash of a module's code, as traced or by its class, and of its weights."""
    found = hashlib.sha256(str(getattr(module, "code", repr(module))).encode())
    for name, value in module.state_dict().items():
        found.update(name.encode())
        if isinstance(value, Tensor):
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class _Image:
    """What a traced node gives: channels, and pixels for each pixel of the network's image along a side."""

    channels: int
    factor: Ratio


class _Shapes:
    """Which nodes of a traced graph give images, by running it on the probe's."""

    def __init__(self, traced: fx.GraphModule, probe: Probe) -> None:
        runs = [_recorded(traced, image) for image in probe.images]
        self.found: dict[str, _Image] = {}
        for name, first in runs[0].items():
            second = runs[1].get(name)
            if second is None or len(first) != 4 or len(second) != 4:
                continue
            factors = {
                Fraction(shape[dim], image.shape[dim])
                for shape, image in zip((first, second), probe.images, strict=True)
                for dim in (2, 3)
            }
            # Two sizes and two batches tell apart what grows with the image from what only happens to have its size once.
            if first[0] == 1 and second[0] == 2 and first[1] == second[1] and len(factors) == 1:
                self.found[name] = _Image(first[1], ratio(next(iter(factors))))


@torch.inference_mode()
def _recorded(traced: fx.GraphModule, image: Tensor) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor) and result.is_floating_point():
                shapes[n.name] = tuple(result.shape)
            return result

    try:
        Recorder(traced).run(image.clone())
    except Exception as error:  # the module's own code runs here
        raise UnsupportedModelError(f"its traced graph does not run: {' '.join(str(error).split())[:200]}") from error
    return shapes


class _Foreign:
    """The value of a traced node that PyTorch computes; ``image`` where it is one."""

    def __init__(self, image: _Image | None) -> None:
        self.image = image


class _MixedBuilder(Builder):
    """As for any network, but for nodes that no converter covers."""

    def __init__(self, module: nn.Module, traced: fx.GraphModule, shapes: _Shapes) -> None:
        super().__init__(module, input_may_change=False)
        self._traced, self._shapes = traced, shapes

    def add(self, node: fx.Node) -> None:
        if node.op in ("placeholder", "get_attr"):
            super().add(node)
            return
        if node.op == "output":
            for source in node.all_input_nodes:
                self._bring(source)
            super().add(node)
            return
        foreign = [source for source in node.all_input_nodes if isinstance(self._value(source), _Foreign)]
        if self._is_covered(node, foreign):
            count = len(self.nodes)
            try:
                for source in foreign:
                    self._bring(source)
                super().add(node)
                if isinstance(self.names[node], str) and node.name not in self._shapes.found:
                    raise UnsupportedModelError(f"what {node.name} gives is no image for every size")
                return
            except UnsupportedModelError:
                # What a converter emitted before it gave up goes again; activations that PyTorch was made to give on the
                # way are right and may be read by others already.
                kept = self.nodes[:count] + [n for n in self.nodes[count:] if isinstance(n, Eager)]
                for dropped in [n for n in self.nodes if n not in kept]:
                    self.places.pop(dropped.output, None)
                self.nodes[:] = kept
        if changes_in_place(node, self.modules):
            raise UnsupportedModelError(f"{node.name} changes a tensor in place that no plan node covers")
        self.names.bind(node, _Foreign(self._shapes.found.get(node.name)))
        if len(node.users) > 1 and node.name in self._shapes.found:
            self._bring(node)  # once, for all that read it

    def _value(self, node: fx.Node) -> Any:
        return self.names[node]

    def _is_covered(self, node: fx.Node, foreign: list[fx.Node]) -> bool:
        """Whether a converter may be asked: it has one, all its images are activations or can become so, and it is worth it."""
        if node.op == "call_module":
            leaf = self.modules[str(node.target)]
            has, heavy = type(leaf) in MODULES, isinstance(leaf, _HEAVY)
        else:
            has, heavy = node.target in FUNCTIONS, node.target in _HEAVY_FUNCTIONS
        images = all(self._value(source).image is not None for source in foreign)
        beside = any(isinstance(self._value(source), str) for source in node.all_input_nodes)
        return has and images and (heavy or beside or not foreign)

    def _bring(self, node: fx.Node) -> None:
        """What PyTorch computes there becomes an activation, by a node of the plan."""
        value = self._value(node)
        if not isinstance(value, _Foreign):
            return
        if value.image is None:
            raise UnsupportedModelError(f"what {node.name} gives is no image for every size")
        inputs, module, names = self._cut(node)
        known = {name: self._image_of(name) for name in inputs}
        first = known[inputs[0]]
        eager = Eager(
            node.name,
            inputs[0],
            tuple(inputs[1:]),
            module,
            tuple(known[name].channels for name in inputs),
            value.image.channels,
            ratio(Fraction(value.image.factor) / Fraction(first.factor)),
            ", ".join(names),
            digest(module),
        )
        if not all(self.place(name).whole for name in inputs):
            raise UnsupportedModelError(f"{node.name} reads an image that convolutions without padding made smaller")
        self.names.bind(node, self.emit(eager))

    def _image_of(self, activation: str) -> _Image:
        if activation not in self._shapes.found:
            raise UnsupportedModelError(f"the size of {activation} is not known")
        return self._shapes.found[activation]

    def _cut(self, result: fx.Node) -> tuple[list[str], nn.Module, list[str]]:
        """The operations from the plan's activations to a node: names of the activations, a module, and what it consists of."""
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        inputs: dict[str, fx.Node] = {}
        needed = list(_before(result, lambda n: isinstance(self._value(n), str)))
        for node in needed:
            if isinstance(self._value(node), str) and node is not result:
                name = self._value(node)
                if name not in inputs:
                    inputs[name] = graph.placeholder(f"x{len(inputs)}")
                copies[node] = inputs[name]
        if not inputs:
            raise UnsupportedModelError(f"{result.name} does not depend on the image")
        # The module may change what it is given in place, and activations are read by other nodes too.
        clones = {name: graph.call_function(torch.clone, (copy,)) for name, copy in inputs.items()}
        for node, copy in copies.items():
            copies[node] = next(clones[name] for name, other in inputs.items() if other is copy)
        words: list[str] = []
        for node in needed:
            if node not in copies:
                copies[node] = graph.node_copy(node, lambda n: copies[n])
                words += _words(node)
        graph.output(copies[result])
        module = fx.GraphModule(self._traced, graph, "Eager")
        module.delete_all_unused_submodules()
        return list(inputs), module.eval(), list(dict.fromkeys(words))[:4]


def _before(result: fx.Node, stops: Any) -> Iterator[fx.Node]:
    """The nodes that a node needs, in order, with itself; nothing behind those where ``stops`` is true."""
    needed: set[fx.Node] = set()
    waiting = [result]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            if node is result or not stops(node):
                waiting += node.all_input_nodes
    return (node for node in result.graph.nodes if node in needed)


def _words(node: fx.Node) -> list[str]:
    if node.op == "call_module":
        return [str(node.target)]
    if node.op in ("get_attr", "placeholder"):
        return []
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return [] if node.target in (getattr, operator.getitem) else [str(name)]


def changes_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node writes into its first input."""
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))
    return in_place or bool(node.kwargs.get("inplace")) or name == "setitem"
