"""8-bit convolutions on CPUs with AMX-INT8 or AVX512-VNNI: which ones may be, and how their inputs are rounded.

Weights are rounded to 8 bits with a scale for every output channel, inputs with a scale and a zero point for every
activation. The first and the last convolution, everything that is added and everything between layers stay float32.
"""

from __future__ import annotations

from srfast.kernels.cpu import lowp_fits
from srfast.plan import Conv, Plan


def lowp_convs(plan: Plan) -> list[Conv]:
    """The convolutions that may become 8-bit ones: all that the kernels cover but the first and the last."""
    shapes = plan.shapes()
    convs = [node for node in plan.nodes if isinstance(node, Conv)]
    return [
        node
        # The first reads pixels and the last writes them: their rounding would be seen, while they are little of the work.
        for node in convs[1:-1]
        if lowp_fits(node.kernel, node.weight.shape[1])
        and all(shapes[name].channels % 16 == 0 for name in node.sources)
    ]
