"""The reference backend: every node in plain torch, the specification of all others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.backends.base import Executable, release_after
from srfast.kernels.conv import activate, conv_reference
from srfast.plan import Activate, Add, Affine, Clamp, Conv, Node, Plan, Resize, Shuffle


class ReferenceBackend:
    """Runs any plan on any device and floating dtype."""

    name = "reference"

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        return [] if dtype.is_floating_point else [f"{dtype} is not a floating type"]

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        plan = plan.map_tensors(lambda t: t.to(device, dtype))
        release = release_after(plan)

        @torch.inference_mode()
        def run(x: Tensor) -> Tensor:
            values = {plan.input: x}
            for node, unused in zip(plan.nodes, release, strict=True):
                values[node.output] = run_node(node, values)
                for name in unused:
                    del values[name]
            return values[plan.output]

        return run


def run_node(node: Node, values: dict[str, Tensor]) -> Tensor:
    """Evaluates one node on the activations written so far."""
    x = values[node.input]
    if isinstance(node, Conv):
        residual = None if node.residual is None else values[node.residual]
        return conv_reference(
            x,
            node.weight,
            node.bias,
            act=node.act,
            slope=node.slope,
            shuffle=node.shuffle,
            gain=node.gain,
            residual=residual,
            clamp=node.clamp,
        )
    if isinstance(node, Affine):
        return x * node.scale.to(x.dtype).view(1, -1, 1, 1) + node.shift.to(x.dtype).view(1, -1, 1, 1)
    if isinstance(node, Activate):
        return activate(x, node.act, node.slope)
    if isinstance(node, Shuffle):
        return F.pixel_shuffle(x, node.factor)
    if isinstance(node, Add):
        return x + values[node.other]
    if isinstance(node, Clamp):
        return x.clamp(node.low, node.high)
    return resize(x, node)


def resize(x: Tensor, node: Resize) -> Tensor:
    """``interpolate`` by a whole factor."""
    if node.mode == "nearest":
        return F.interpolate(x, scale_factor=node.factor, mode="nearest")
    return F.interpolate(x, scale_factor=node.factor, mode=node.mode, align_corners=False)
