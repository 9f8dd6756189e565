"""From a network to the plan that srfast runs: its own operations wherever they cover the network, PyTorch for the rest."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.capture.mixed import Probe, mixed, probed, settled, whole
from srfast.errors import UnsupportedModelError
from srfast.plan import Conv, Eager, Plan
from srfast.plan.passes import optimise

_log = logging.getLogger("srfast")


def plan_network(module: nn.Module, in_channels: int | None = None, *, strict: bool = False) -> Plan:
    """Capture and optimise a network.

    Args:
        module: takes one [N, C, H, W] image and returns one, enlarged by a whole factor.
        in_channels: C; by default what its layers ask for.
        strict: refuse a network with an operation that no node of a plan covers, instead of leaving it to PyTorch.

    Returns:
        A plan that gives what the module gives. One with operations that PyTorch runs was compared with the module on images
        of two sizes.

    Raises:
        UnsupportedModelError: names the operation that is not covered, or says why the network is no function of one image.

    Examples:
        >>> plan = plan_network(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Softplus()).eval())
        >>> [type(node).__name__ for node in plan.nodes]
        ['Conv', 'Eager']
    """
    try:
        return optimise(capture(module, in_channels))
    except UnsupportedModelError as error:
        if strict:
            raise
        refused = error
    try:
        copied = settled(module)
        probe = probed(copied, in_channels)
    except UnsupportedModelError as error:
        raise refused from error
    try:
        # Tracing runs the module's code on stand-ins for images, which some modules keep.
        plan = optimise(mixed(copy.deepcopy(copied), probe))
        if _agrees(plan, probe):
            _log.info("%s; %s", refused, parts(plan))
            return plan
        reason = "its parts do not give what it gives as a whole"
    except UnsupportedModelError as error:
        reason = str(error)
    plan = optimise(whole(copied, probe))
    if not _agrees(plan, probe):
        raise refused
    _log.info("%s; PyTorch runs the whole network: %s", refused, reason)
    return plan


def _agrees(plan: Plan, probe: Probe) -> bool:
    """Whether the plan gives the module's results, in float32, on the CPU."""
    run = ReferenceBackend().compile(plan, torch.device("cpu"), torch.float32)
    return all(_close(run(x), y) for x, y in zip(probe.images, probe.results, strict=True))


def _close(got: Tensor, expected: Tensor) -> bool:
    if got.shape != expected.shape or not bool(torch.isfinite(expected).all()):
        return False
    return float((got - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


def parts(plan: Plan) -> str:
    """Say which operations of a plan run in srfast's kernels and which PyTorch runs."""
    eager = [node for node in plan.nodes if isinstance(node, Eager)]
    if not eager:
        return f"srfast's kernels run all {len(plan.nodes)} operations"
    convs = sum(isinstance(node, Conv) for node in plan.nodes)
    what = "; ".join(dict.fromkeys(node.what for node in eager))
    told = what if len(what) < 200 else f"{what[:197]}..."
    own = f"srfast's kernels run {len(plan.nodes) - len(eager)} operations, {convs} of them convolutions"
    return f"{own}, PyTorch runs {len(eager)}: {told}"
