"""``srfast.compile``: any module of covered operations, on tensors, without frames or tiles around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from srfast.backends import default_device, default_dtype, select_backend
from srfast.capture import capture
from srfast.errors import InputError, UnsupportedModelError
from srfast.passes import optimise


class CompiledModule(nn.Module):
    """A fused network that takes and gives what the module it was made from does.

    Weights are those at the time of compilation. There is no gradient.
    """

    def __init__(self, module: nn.Module, backend: str, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.plan = optimise(capture(module))
        self.device, self.dtype = device, dtype
        self.backend = select_backend(self.plan, device, dtype, backend)
        self._run = self.backend.compile(self.plan, device, dtype)

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along one side."""
        return self.plan.scale

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] floating -> [N, C', scale*H, scale*W] of the same dtype and device, a tensor of its own.

        Raises:
            InputError: another shape, or sides that are not multiples of the plan's alignment.
        """
        unit, channels = self.plan.alignment, self.plan.in_channels
        if x.ndim != 4 or x.shape[1] != channels or not x.is_floating_point() or 0 in x.shape:
            raise InputError(f"the input must be floating [N, {channels}, H, W], not {list(x.shape)} of {x.dtype}")
        if x.shape[2] % unit or x.shape[3] % unit:
            raise InputError(f"height and width must be multiples of {unit}, not {x.shape[2]} and {x.shape[3]}")
        y = self._run(x.to(self.device, self.dtype))
        return y.to(x.device, x.dtype).clone(memory_format=torch.contiguous_format)

    def extra_repr(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{len(self.plan.nodes)} operations, x{self.scale}, {self.backend.name} on {self.device}, {name}"


def compile_module(
    module: nn.Module,
    *,
    backend: str = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> CompiledModule:
    """Folds and fuses a module once; the result is called like it, on tensors.

    Args:
        module: takes one [N, C, H, W] image and returns one, of operations that srfast covers; it is left as it is.
        backend: 'auto' or a backend's name.
        device: by default the first GPU, else the CPU.
        dtype: of weights and activations; by default the device's fastest good one.

    Raises:
        UnsupportedModelError: names the operation that is not covered.
        BackendError: the backend cannot run the network there.
    """
    chosen = torch.device(device) if device is not None else default_device()
    return CompiledModule(module, backend, chosen, dtype or default_dtype(chosen))


compile = compile_module  # noqa: A001  the public name, srfast.compile


def dynamo_backend(graph: fx.GraphModule, examples: list[Any]) -> Callable[..., tuple[Tensor]]:
    """``torch.compile(module, backend="srfast")``: the module's graph as a plan, for inference.

    Args:
        graph: as TorchDynamo traces it: weights are inputs.
        examples: the inputs of the first call.

    Raises:
        UnsupportedModelError: an operation is not covered, or the graph has not one image in and one out.
    """
    weights, images = {}, []
    for index, (node, value) in enumerate(zip(_placeholders(graph), examples, strict=True)):
        if not node.users:
            continue
        if isinstance(value, nn.Parameter) or "_parameters_" in node.name or "_buffers_" in node.name:
            weights[node.name] = value
        else:
            images.append((index, node.name))
    if len(images) != 1:
        raise UnsupportedModelError(f"the graph takes {len(images)} images ({images}); srfast runs one in, one out")
    place, _ = images[0]
    device = examples[place].device
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    compiled = compile_module(_with_weights(graph, weights), device=device, dtype=dtype)

    def run(*inputs: Any) -> tuple[Tensor]:
        x = inputs[place]
        if torch.is_grad_enabled() and (x.requires_grad or any(w.requires_grad for w in weights.values())):
            raise UnsupportedModelError("srfast has no gradients: call the compiled module under torch.no_grad()")
        return (compiled(x),)

    return run


def _placeholders(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.op == "placeholder"]


def _with_weights(graph: fx.GraphModule, weights: dict[str, Tensor]) -> fx.GraphModule:
    """A copy whose weights are buffers and which returns its one image, not a tuple."""
    root = nn.Module()
    nodes = fx.Graph()
    names: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        if node.name in weights:
            root.register_buffer(node.name, weights[node.name].detach())
            names[node] = nodes.get_attr(node.name)
        elif node.op == "output":
            results = node.args[0]
            if len(results) != 1:
                raise UnsupportedModelError(
                    f"the graph returns {len(results)} results; srfast runs one image in, one out"
                )
            nodes.output(names[results[0]])
        elif node.op != "placeholder" or node.users:
            names[node] = nodes.node_copy(node, lambda n: names[n])
    return fx.GraphModule(root, nodes)
