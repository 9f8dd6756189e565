"""8-bit convolutions of a plan on Hopper GPUs: which may be, which activations lie in bytes for them, and who makes these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from srfast.backends.base import enlarged_residuals
from srfast.backends.gpu.layout import epilogue_of
from srfast.kernels.cuda.conv_int8 import Int8Conv, int8_fits, pack_int8
from srfast.kernels.int8 import LowPrecision
from srfast.plan import Conv, Node, Plan


@dataclass(frozen=True)
class ByteStep:
    """What a launch does in 8 bits: a convolution, or 16-bit values to bytes where there is none.

    Attributes:
        conv: its input, the first that the launch reads, is in bytes.
        rounding: of the result's bytes; None where nobody reads them.
        halves: the result is wanted in 16 bits too.
    """

    conv: Int8Conv | None
    rounding: LowPrecision | None = None
    halves: bool = True


def int8_convs(plan: Plan) -> list[Conv]:
    """The convolutions that may become 8-bit ones: all that the kernel covers but the first and the last.

    Args:
        plan: as ``convs.kernel_plan`` gives it.
    """
    enlarged = enlarged_residuals(plan)
    convs = [node for node in plan.nodes if isinstance(node, Conv)]
    return [
        node
        # The first reads pixels and the last writes them: their rounding would be seen, while they are little of the work.
        for node in convs[1:-1]
        if not node.more
        and plan.input != node.input
        and plan.output != node.output
        and node.residual not in enlarged
        and int8_fits(node.weight, node.act, node.shuffle, node.gain, node.clamp, node.residual is not None) is None
    ]


def int8_reason(plan: Plan, roundings: Mapping[str, LowPrecision]) -> str | None:
    """Why a calibrated network is not this plan's; None if it is."""
    strange = sorted(set(roundings) - {node.output for node in int8_convs(plan)})
    return f"8-bit convolutions were calibrated for another network: this one has no {strange[0]}" if strange else None


def pack_int8_convs(
    plan: Plan, roundings: Mapping[str, LowPrecision], dtype: torch.dtype, device: torch.device
) -> dict[str, Int8Conv]:
    """The 8-bit convolutions of a plan packed once, by their outputs.

    Raises:
        ValueError: the roundings are another plan's.
    """
    if reason := int8_reason(plan, roundings):
        raise ValueError(reason)
    return {
        node.output: pack_int8(
            node.weight, node.bias, roundings[node.output], **epilogue_of(node), dtype=dtype, device=device
        )
        for node in int8_convs(plan)
        if node.output in roundings
    }


def in_bytes(name: str) -> str:
    """The name of an activation's bytes beside its own."""
    return f"{name} in bytes"


def byte_steps(plan: Plan, order: Sequence[Node], packed: Mapping[str, Int8Conv]) -> dict[str, ByteStep]:
    """What is done in 8 bits by, or behind, the launches that make activations, by the names of these.

    Args:
        order: the last node of each launch.
        packed: from ``pack_int8_convs``.
    """
    convs = {node.output: node for node in plan.nodes if isinstance(node, Conv) and node.output in packed}
    # All readers of an activation round alike: it is one range that they were calibrated for.
    roundings = {node.input: packed[name].rounding for name, node in convs.items()}
    found: dict[str, ByteStep] = {}
    for node in order:
        name = node.output
        if name in convs:
            wanted = any(_reads_halves(user, name, convs) for user in plan.users(name))
            found[name] = ByteStep(packed[name], roundings.get(name), wanted)
        elif name in roundings:
            found[name] = ByteStep(None, roundings[name])
    return found


def _reads_halves(user: Node, name: str, convs: Mapping[str, Conv]) -> bool:
    if user.output not in convs:
        return True
    return convs[user.output].residual == name
