"""The trunk of a plan, a run of 3x3 convolutions of 64 channels, in one CUDA launch where this was measured to be faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from srfast.backends.base import enlarged_residuals
from srfast.backends.cuda.convs import config_of, conv_reason, pack_node, single_launch
from srfast.backends.gpu.buffers import Canvases
from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.config import CudaConfig, find_trunk
from srfast.kernels.cuda.pack import CudaConv
from srfast.kernels.cuda.trunk import (
    MOST_LAYERS,
    CudaTrunk,
    Layer,
    conv_fits,
    layers_fit,
    pack_trunk,
    trunk_launch,
    trunk_reason,
)
from srfast.plan import Conv, Node, Plan, Shape


@dataclass(frozen=True)
class Trunk:
    """Convolutions of a plan, each of which reads the one before, packed for one launch.

    Attributes:
        nodes: in order.
        packed: the same.
        configs: how each runs where the one launch cannot be: canvases that lie apart, say.
    """

    nodes: tuple[Conv, ...]
    packed: CudaTrunk
    configs: tuple[CudaConfig, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The activations from outside, the input first."""
        inner = {node.output for node in self.nodes}
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.inputs if name not in inner))

    def layers(self, outside: Mapping[str, Canvas], out: Canvas, take: Callable[[], Canvas]) -> list[Layer]:
        """Gives each convolution its canvases.

        Args:
            outside: canvases of ``reads``.
            out: of the last one's result.
            take: gives a canvas for what lies between; those that nobody reads any more are used again.
        """
        last = {name: i for i, node in enumerate(self.nodes) for name in node.inputs}
        held, free, found = dict(outside), list[Canvas](), list[Layer]()
        for i, node in enumerate(self.nodes):
            read_last = [name for name in set(node.inputs) if last[name] == i and name not in outside]
            source, residual = held[node.input], held[node.residual] if node.residual is not None else None
            in_place = node.residual if node.residual in read_last and node.residual != node.input else None
            if node is self.nodes[-1]:
                target = out
            elif in_place is not None:
                target = held[in_place]
            else:
                target = free.pop() if free else take()
            held[node.output] = target
            free += [held[name] for name in sorted(read_last) if name != in_place]
            found.append(Layer(source, target, residual))
        return found

    def launches(self, canvases: Canvases, shape: Shape, out: Canvas) -> list[cuda.Launch]:
        """One launch, or as many as there are convolutions where the canvases are not as the one needs them.

        Args:
            canvases: have those of ``reads``, and give those for what lies between, which are free again behind the trunk.
            shape: of what lies between, and of the result.
            out: for the result.
        """
        between: list[Canvas] = []

        def take() -> Canvas:
            between.append(canvases.take(shape))
            return between[-1]

        layers = self.layers({name: canvases[name] for name in self.reads}, out, take)
        for canvas in between:
            canvases.give(shape, canvas)
        if layers_fit(layers) is None:
            return [trunk_launch(self.packed, layers)]
        return [
            single_launch(layer.source, conv, config, layer.out, layer.residual)
            for conv, config, layer in zip(self.packed.convs, self.configs, layers, strict=True)
        ]


def measured_trunks(plan: Plan, names: tuple[str, ...]) -> list[tuple[Conv, ...]]:
    """Runs of convolutions for which a measurement says that one launch is faster; none by default, nothing being measured.

    Args:
        plan: what runs.
        names: under which measurements are looked up, from ``kernels.configs.device_names``.
    """
    return [] if find_trunk(names) is None else trunks(plan)


def trunks(plan: Plan) -> list[tuple[Conv, ...]]:
    """Runs of at least three convolutions that one launch could make: what they make, only they read, but for the last."""
    enlarged = enlarged_residuals(plan)
    found, run = list[tuple[Conv, ...]](), list[Conv]()
    for node in (*plan.nodes, None):
        if isinstance(node, Conv) and _could_be(node, enlarged) and (not run or node.input == run[-1].output):
            run.append(node)
            continue
        found += _closed(plan, run)
        run = [node] if isinstance(node, Conv) and _could_be(node, enlarged) else []
    return found


def fused_trunks(
    plan: Plan,
    names: tuple[str, ...],
    dtype: torch.dtype,
    device: torch.device,
    pack: Callable[[Conv], CudaConv] | None = None,
    measured: bool = True,
) -> list[Trunk]:
    """The trunks of a plan that the kernel can run on the device.

    Args:
        plan, names: as of ``measured_trunks``.
        dtype, device: of the weights.
        pack: gives a packed convolution; by default it is packed here.
        measured: only those of ``measured_trunks``.
    """
    packing = pack or (lambda node: pack_node(node, config_of(node, names), dtype, device))
    found = []
    for nodes in measured_trunks(plan, names) if measured else trunks(plan):
        packed = [packing(node) for node in nodes]
        fits = all(conv_fits(conv, node.residual is not None) is None for conv, node in zip(packed, nodes, strict=True))
        if fits and trunk_reason(dtype, device) is None:
            found.append(Trunk(nodes, pack_trunk(packed), tuple(config_of(node, names) for node in nodes)))
    return found


def _could_be(node: Conv, enlarged: Mapping[str, object]) -> bool:
    return (
        node.weight.shape == (64, 64, 3, 3)
        and not node.more
        and conv_reason(node) is None
        and node.act in ("none", "prelu")
        and node.shuffle == 1
        and node.clamp is None
        and (node.residual is not None or node.gain == 1.0)
        and node.residual not in enlarged
    )


def _closed(plan: Plan, run: Sequence[Conv]) -> list[tuple[Conv, ...]]:
    """Cuts a run where something else reads what lies inside it."""
    found, first = list[tuple[Conv, ...]](), 0
    while first < len(run):
        end = min(len(run), first + MOST_LAYERS)
        while end - first > 1 and not _by_itself(plan, run[first:end]):
            end -= 1
        if end - first >= 3:
            found.append(tuple(run[first:end]))
        first = end
    return found


def _by_itself(plan: Plan, run: Sequence[Conv]) -> bool:
    inside: list[Node] = list(run)
    return all(
        node.output != plan.output and all(any(user is one for one in inside) for user in plan.users(node.output))
        for node in run[:-1]
    )
