"""``srfast.compile``: any module of covered operations, on tensors, without frames or tiles around it."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from srfast._one_thread import contiguous_copy, take
from srfast._torch_private import change_count, is_kept_by_module
from srfast.backends import FLOATING_BITS, Backend, default_dtype, select_backend
from srfast.backends.base import FunctionExecutable
from srfast.capture import capture
from srfast.capture.mixed import changes_in_place
from srfast.devices import usable_device
from srfast.errors import InputError, SrfastError, UnsupportedModelError
from srfast.models.bordered import with_border
from srfast.plan import Plan
from srfast.plan.passes import optimise
from srfast.planning import plan_network


class CompiledModule(nn.Module):
    """A fused network that takes and gives what the module it was made from does.

    It has weights of its own, those at the time of compilation. There is no gradient, and the input stays as it is. Threads
    that call it take turns.
    """

    def __init__(self, plan: Plan, backend: str | Backend, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.plan = plan
        self.device, self.dtype = device, dtype
        self.backend = select_backend(self.plan, device, dtype, backend)
        self._run = self.backend.compile(self.plan, device, dtype)
        self._turn = threading.Lock()  # whose are the buffers

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, and other processes, compile the plan anew."""
        return CompiledModule, (self.plan, self.backend, self.device, self.dtype)

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along one side."""
        return self.plan.scale

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] floating -> [N, C', scale*H, scale*W] of the same dtype and device, a tensor of its own.

        Raises:
            InputError: another shape, or, of a network without a border of its own, sides that are not multiples of the
                plan's alignment.
        """
        unit, channels = self.plan.alignment, self.plan.in_channels
        if x.ndim != 4 or x.shape[1] != channels or not x.is_floating_point() or 0 in x.shape:
            raise InputError(f"the input must be floating [N, {channels}, H, W], not {list(x.shape)} of {x.dtype}")
        border, (rows, columns) = self.plan.border, (self.scale * side for side in x.shape[2:])
        if not border and (x.shape[2] % unit or x.shape[3] % unit):
            raise InputError(f"height and width must be multiples of {unit}, not {x.shape[2]} and {x.shape[3]}")
        with self._turn:
            y = self._run(with_border(x.to(self.device, self.dtype), border, unit, take=take))
            first = self.scale * border
            y = y[:, :, first : first + rows, first : first + columns]
            # The executable overwrites its buffers at the next call.
            return contiguous_copy(y.to(x.device, x.dtype))

    def close(self) -> None:
        """Give back weights and buffers, after what runs now; later calls raise."""
        with self._turn:
            self._run = FunctionExecutable(_closed, self._run.traits)

    def __enter__(self) -> CompiledModule:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def extra_repr(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{len(self.plan.nodes)} operations, x{self.scale}, {self.backend.name} on {self.device}, {name}"


def _closed(x: Tensor) -> Tensor:
    raise SrfastError("this compiled module is closed; compile another one")


def compile_module(
    module: nn.Module,
    *,
    backend: str | Backend = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    in_channels: int | None = None,
    strict: bool = False,
) -> CompiledModule:
    """Fold and fuse a module once; the result is called like it, on tensors.

    The result computes what the module does in eval mode with the weights that it has now: compile it again when they change.

    Args:
        module: takes one [N, C, H, W] image and returns one; it is left as it is.
        backend: 'auto', a backend's name, or a backend.
        device: by default the first GPU, else the CPU.
        dtype: of weights and activations; by default float32 on CPUs and float16 on GPUs.
        in_channels: C; by default what the layers ask for, and 3 where they take any.
        strict: refuse a module with an operation that srfast does not cover, instead of leaving that to PyTorch.

    Raises:
        UnsupportedModelError: names the operation that is not covered, if ``strict``; else the module is no fixed function of
            one image.
        BackendError: the backend cannot run the network there.

    Examples:
        >>> module = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)).eval()
        >>> fast = compile_module(module, device="cpu", dtype=torch.float32)
        >>> x = torch.rand(1, 3, 24, 32)
        >>> bool((fast(x) - module(x)).abs().max() < 1e-5)
        True
    """
    chosen = usable_device(device)
    plan = plan_network(module, in_channels, strict=strict)
    return CompiledModule(plan, backend, chosen, dtype or default_dtype(chosen, plan, FLOATING_BITS))


compile = compile_module  # noqa: A001  the public name, srfast.compile


def dynamo_backend(graph: fx.GraphModule, examples: list[Any]) -> Callable[..., tuple[Any, ...]]:
    """``torch.compile(module, backend="srfast")``: the module's graph as a plan, for inference.

    Weights that change in place, as by ``load_state_dict``, or are replaced are compiled again at the next call. PyTorch
    keeps no account of changes through ``.data``; ``torch.compiler.reset()`` makes them count.

    Args:
        graph: as TorchDynamo traces it: weights are inputs.
        examples: the inputs of the first call.

    Raises:
        UnsupportedModelError: an operation is not covered, or the graph has not one image in and one out.
    """
    return _DynamoGraph(graph, examples)


class _DynamoGraph:
    """A graph of TorchDynamo, called with its weights and one image."""

    def __init__(self, graph: fx.GraphModule, examples: list[Any]) -> None:
        self.graph = graph
        self.weights: list[tuple[int, str]] = []  # place among the inputs, and name in the graph
        images: list[tuple[int, fx.Node]] = []
        for index, (node, value) in enumerate(zip(_placeholders(graph), examples, strict=True)):
            # TorchDynamo hands over what the graph does not use as well, sizes among them.
            if not node.users:
                continue
            # TorchDynamo lifts weights to inputs; buffers are plain tensors there, which only their names tell from an
            # image.
            is_weight = isinstance(value, nn.Parameter) or "_parameters_" in node.name or "_buffers_" in node.name
            if is_weight:
                self.weights.append((index, node.name))
            else:
                images.append((index, node))
        if len(images) > 1:  # plain tensors that the module keeps are as good as buffers
            self.weights += [(index, node.name) for index, node in images if is_kept_by_module(node)]
            images = [(index, node) for index, node in images if not is_kept_by_module(node)]
        if len(images) != 1:
            names = ", ".join(node.name for _, node in images)
            raise UnsupportedModelError(f"the graph takes {len(images)} images ({names}); srfast runs one in, one out")
        self.image = images[0][0]
        _check_stored(graph, {name for _, name in self.weights})
        (results,) = (node.args[0] for node in graph.graph.nodes if node.op == "output")
        of_image = [place for place, result in enumerate(results) if result in _depending(graph, images[0][1])]
        if len(of_image) != 1:
            raise UnsupportedModelError(f"the graph returns {len(of_image)} images; srfast runs one in, one out")
        self.place, self.has_others = of_image[0], len(results) > 1
        self.compile(examples)

    def compile(self, inputs: Sequence[Any]) -> None:
        x = inputs[self.image]
        weights = {name: inputs[index] for index, name in self.weights}
        self.seen = [_Seen(weight) for weight in weights.values()]
        self.channels = x.shape[1] if x.ndim == 4 else None
        module = _with_weights(self.graph, weights, self.place)
        # Another graph may go on with the image, and would miss what this one changed.
        plan = optimise(capture(module, self.channels, input_may_change=False))
        dtype = torch.float32 if x.device.type == "cpu" else torch.float16
        self.run = CompiledModule(plan, "auto", x.device, dtype)
        # What else the graph returns is made of the weights, as by hooks that keep a normalised one in their module.
        with torch.no_grad():
            copies = {name: weight.clone() for name, weight in weights.items()} if self.has_others else {}
            self.others = _with_weights(self.graph, copies, None)() if self.has_others else ()

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        x, weights = inputs[self.image], [inputs[index] for index, _ in self.weights]
        if torch.is_grad_enabled() and (x.requires_grad or any(w.requires_grad for w in weights)):
            raise UnsupportedModelError("srfast has no gradients: call the compiled module under torch.no_grad()")
        fresh = all(seen.is_still(weight) for seen, weight in zip(self.seen, weights, strict=True))
        if not fresh or (x.ndim == 4 and x.shape[1] != self.channels):
            self.compile(inputs)
        return (*self.others[: self.place], self.run(x), *self.others[self.place :])


class _Seen:
    """A weight as it was when it was compiled."""

    def __init__(self, weight: Tensor) -> None:
        self.memory = weight.detach()  # held, so that no later weight comes to lie at its address
        # What torch.inference_mode() makes counts no changes.
        self.version = None if weight.is_inference() else change_count(weight)
        self.values = weight.clone() if weight.is_inference() else None

    def is_still(self, weight: Tensor) -> bool:
        if weight.data_ptr() != self.memory.data_ptr() or weight.is_inference() != (self.version is None):
            return False
        return change_count(weight) == self.version if self.values is None else torch.equal(weight, self.values)


# Operations whose result lies in the memory of their first input.
_SAME_MEMORY = (operator.getitem, torch.detach, "detach", "view", "unsqueeze", "squeeze", "select", "narrow", "flatten")


def _placeholders(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.op == "placeholder"]


def _check_stored(graph: fx.GraphModule, weights: set[str]) -> None:
    """Refuse a graph that writes into what its module keeps, which a plan would not do.

    Raises:
        UnsupportedModelError: it does.
    """
    for node in graph.graph.nodes:
        written = node.kwargs.get("out")
        if (
            written is None
            and node.op.startswith("call_")
            and node.args
            and changes_in_place(node, dict(graph.named_modules()))
        ):
            written = node.args[0]
        while isinstance(written, fx.Node) and written.target in _SAME_MEMORY:
            written = written.args[0]
        if isinstance(written, fx.Node) and written.name in weights:
            raise UnsupportedModelError(
                f"the network changes a stored tensor, {written} (at {node.name}), as normalisation does in training; "
                "srfast runs fixed functions only: call eval()"
            )


def _depending(graph: fx.GraphModule, image: fx.Node) -> set[fx.Node]:
    """The image, and what is computed from it."""
    found = {image}
    for node in graph.graph.nodes:
        if node.op != "output" and not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _with_weights(graph: fx.GraphModule, weights: dict[str, Tensor], place: int | None) -> fx.GraphModule:
    """A copy whose weights are buffers and which returns its one image, at ``place`` among the results, not a tuple.

    For None it takes no image, and returns the other results.
    """
    root = nn.Module()
    nodes = fx.Graph()
    names: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        if node.name in weights:
            root.register_buffer(node.name, weights[node.name].detach())
            names[node] = nodes.get_attr(node.name)
        elif node.op == "output":
            results = node.args[0]
            if place is None:
                nodes.output(tuple(names[result] for result in results if result in names))
                nodes.eliminate_dead_code()
            else:
                nodes.output(names[results[place]])
        elif node.op == "placeholder" and (place is None or not node.users):
            continue
        elif all(needed in names for needed in node.all_input_nodes):
            names[node] = nodes.node_copy(node, lambda n: names[n])
    return fx.GraphModule(root, nodes)
