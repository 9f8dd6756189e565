"""From a network to the plan that srfast runs: its own operations wherever they cover the network, PyTorch for the rest."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.capture.mixed import Probe, mixed, probed, settled, whole
from srfast.devices import on_cpu
from srfast.errors import UnsupportedModelError
from srfast.plan import Clamp, Conv, Eager, Node, Plan
from srfast.plan.graph import renamed
from srfast.plan.passes import optimise

_log = logging.getLogger("srfast")


@on_cpu
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
        # The first refusal names the operation, which helps a user more than why the second way failed.
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
    # Sums in another order differ in their last bits; another function differs by far more.
    return float((got - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


@on_cpu
def chained(plans: Sequence[Plan]) -> Plan:
    """Join plans into one that runs them one after the other.

    Args:
        plans: of networks for images in 0..1, in order; each takes as many colour planes as the one before gives.

    Returns:
        A plan that limits what is handed on to 0..1 and does not round it. Its tiles are exact where all of theirs are.

    Raises:
        UnsupportedModelError: the planes do not fit, or one of several networks has a border of its own.

    Examples:
        >>> from srfast.models import SRVGGNetCompact
        >>> clean, enlarge = (SRVGGNetCompact(num_feat=4, num_conv=1, upscale=scale).eval() for scale in (1, 2))
        >>> chained([plan_network(clean), plan_network(enlarge)]).scale
        2
    """
    if len(plans) == 1:
        return plans[0]
    nodes: list[Node] = []
    before = ""
    for index, plan in enumerate(plans):
        if plan.border:
            raise UnsupportedModelError(
                f"network {index + 1} of the chain has a border of {plan.border} pixels, which only images have: run it by itself"
            )
        if index and plan.in_channels != plans[index - 1].out_channels:
            raise UnsupportedModelError(
                f"network {index + 1} of the chain takes {plan.in_channels} colour planes, and the one before gives "
                f"{plans[index - 1].out_channels}"
            )
        names = {name: f"n{index}_{name}" for name in plan.shapes()}
        if index:
            names[plan.input] = f"n{index}_limited"
            # A network may go over white and under black a little, and the next one was trained on images that do not.
            nodes.append(Clamp(names[plan.input], before, 0.0, 1.0))
        nodes += [replace(renamed(node, names), output=names[node.output]) for node in plan.nodes]
        before = names[plan.output]
    first = plans[0]
    multiple = math.lcm(*(plan.multiple for plan in plans))
    return optimise(Plan(tuple(nodes), f"n0_{first.input}", before, first.in_channels, multiple=multiple))


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
