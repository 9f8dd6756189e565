"""Steps of the CPU backend through oneDNN: prepacked weights and fused epilogues, channels last.

oneDNN is reached through the fused operators that PyTorch's own compiler uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from srfast._torch_private import has_onednn_operators, onednn_conv, onednn_conv_add, packed_for_onednn
from srfast.backends.reference import run_node
from srfast.kernels.reference import activate
from srfast.plan import Conv, Plan

Step = Callable[[dict[str, Tensor]], Tensor]


def missing_reason() -> str | None:
    """Why oneDNN cannot be used, or None."""
    return None if has_onednn_operators() else "this build of PyTorch has no oneDNN"


@lru_cache(maxsize=1)
def computes_bf16() -> bool:
    """Whether oneDNN convolves bfloat16 on this CPU, in hardware or in software."""
    try:
        # PyTorch has no question for it; packing a weight of one value raises where oneDNN refuses the dtype.
        packed_for_onednn(torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16, device="cpu"), 0)
    except RuntimeError:
        return False
    return True


def onednn_build() -> str:
    """What its results depend on, for people: the instructions that PyTorch uses here and its version."""
    return f"oneDNN of PyTorch {torch.__version__} with {torch.backends.cpu.get_cpu_capability()}"


def onednn_step(plan: Plan, index: int, unused: list[str]) -> Step:
    """The function that computes node ``index`` from the activations before it; ``unused`` are not read again."""
    node = plan.nodes[index]
    if not isinstance(node, Conv):
        return lambda values: run_node(node, values)
    if node.weight.dtype == torch.bfloat16 and not computes_bf16():
        return _rounded_step(node)
    # The residual's own memory takes the sum where nothing reads it afterwards.
    in_place = node.residual is not None and node.residual in unused and node.residual not in (plan.input, node.input)
    return _conv_step(node, in_place)


def _rounded_step(node: Conv) -> Step:
    """bfloat16 where oneDNN refuses it, so only where ``SRFAST_CPU`` pretends: float32, rounded as the hardware would."""
    slope = None if node.slope is None else node.slope.float()
    wide = replace(node, weight=node.weight.float(), bias=node.bias.float(), slope=slope)

    def run(values: dict[str, Tensor]) -> Tensor:
        return run_node(wide, {name: values[name].float() for name in node.inputs}).to(torch.bfloat16)

    return run


def _conv_step(node: Conv, in_place: bool) -> Step:
    padding = node.kernel // 2
    packed = packed_for_onednn(node.weight, padding)
    shared_slope = node.slope is not None and node.slope.numel() == 1
    # A PReLU with one slope is a leaky ReLU, which oneDNN computes before it stores; with a slope for each channel
    # there is none.
    fused_act = {
        "none": "none",
        "tanh": "tanh",
        "sigmoid": "sigmoid",
    } | ({"prelu": "leaky_relu"} if shared_slope else {})
    scalars = [float(node.slope)] if shared_slope and node.slope is not None else []
    separate_act = fused_act.get(node.act, "none") == "none" and node.act != "none"
    # oneDNN's sum comes right after the convolution; with anything in between it would be added at the wrong place.
    fused_add = node.residual is not None and node.act == "none" and node.shuffle == 1 and node.gain == 1.0

    def run(values: dict[str, Tensor]) -> Tensor:
        x = torch.cat([values[name] for name in node.sources], 1) if node.more else values[node.input]
        if fused_add and node.residual is not None:
            y = onednn_conv_add(x, values[node.residual], packed, node.bias, padding, in_place)
        else:
            act = fused_act.get(node.act, "none")
            y = onednn_conv(x, packed, node.bias, padding, act, scalars)
            y = activate(y, node.act, node.slope) if separate_act else y
            y = F.pixel_shuffle(y, node.shuffle) if node.shuffle > 1 else y
            y = y.mul_(node.gain) if node.gain != 1.0 else y
            y = y.add_(values[node.residual]) if node.residual is not None else y
        result: Tensor = y if node.clamp is None else y.clamp_(*node.clamp)
        return result

    return run
