"""Low-precision convolutions on CPUs: which ones may be in 8 bits (AMX-INT8, AVX512-VNNI) or bfloat16 (AMX, AVX512-BF16).

Weights are rounded to 8 bits with a scale for every output channel, inputs with a scale and a zero point for every
activation. The first and the last convolution, everything that is added and everything between layers stay float32.
"""

from __future__ import annotations

from srfast.backends.cpu.lower import algorithm_of
from srfast.kernels.cpu import lowp_fits
from srfast.plan import Conv, Plan


def lowp_convs(plan: Plan) -> list[Conv]:
    """The convolutions that may become low-precision ones: all that the kernels cover but the first and the last."""
    shapes = plan.shapes()
    convs = [node for node in plan.nodes if isinstance(node, Conv)]
    return [
        node
        # The first reads pixels and the last writes them: their rounding would be seen, while they are little of the work.
        for node in convs[1:-1]
        if lowp_fits(node.kernel, node.weight.shape[1])
        and all(shapes[name].channels % 16 == 0 for name in node.sources)
    ]


def direct_convs(plan: Plan, *, winograd: bool) -> list[Conv]:
    """Those of ``lowp_convs`` that no transform makes faster in float32.

    Args:
        plan: in the operations of the kernels, see ``lower.lowered``.
        winograd: whether there are transforms.
    """
    shapes = plan.shapes()
    return [node for node in lowp_convs(plan) if not winograd or algorithm_of(node, shapes) == "direct"]
