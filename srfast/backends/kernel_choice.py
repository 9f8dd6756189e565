"""Which kernels run which convolutions on a GPU: the compiled CUDA ones where they were measured to be faster than Triton's."""

from __future__ import annotations

from srfast.backends.cuda.convs import config_of, conv_reason
from srfast.backends.cuda.fused import measured_pairs
from srfast.backends.cuda.trunk import measured_trunks
from srfast.kernels.configs import conv_key, pair_key, trunk_key
from srfast.kernels.cuda.config import CudaConfig, find_trunk
from srfast.plan import Conv, Plan, Resize


def faster_in_cuda(node: Conv, names: tuple[str, ...]) -> CudaConfig | None:
    """The configuration of a convolution that was measured to take less time in CUDA than in Triton; None without that.

    Args:
        node: the convolution.
        names: under which measurements are looked up, from ``kernels.configs.device_names``.
    """
    config = config_of(node, names)
    return config if config.speedup > 1 and conv_reason(node) is None else None


def fused_in_cuda(plan: Plan, names: tuple[str, ...]) -> set[str]:
    """Outputs of convolutions that were measured to take less time several in one CUDA launch than in as many launches."""
    pairs = {name for output, (first, _) in measured_pairs(plan, names).items() for name in (output, first.output)}
    return pairs | {node.output for run in measured_trunks(plan, names) for node in run}


def anything_in_cuda(plan: Plan, names: tuple[str, ...]) -> bool:
    """Whether a convolution, or several of them, were measured to take less time in CUDA."""
    single = any(isinstance(node, Conv) and faster_in_cuda(node, names) for node in plan.nodes)
    return single or bool(fused_in_cuda(plan, names))


def preferred(plan: Plan, names: tuple[str, ...]) -> str:
    """The backend for a plan: 'triton', 'cuda' or, convolution by convolution, 'mixed'.

    Without measurements that is Triton, which has a kernel for every operation. CUDA alone is for plans of nothing but
    convolutions, each of them faster there: it can fuse and overlap launches of its own kind.
    """
    convs = [node for node in plan.nodes if isinstance(node, Conv)]
    fused = fused_in_cuda(plan, names)
    faster = [node for node in convs if node.output in fused or faster_in_cuda(node, names)]
    if not faster:
        return "triton"
    others = [node for node in plan.nodes if not isinstance(node, (Conv, Resize))]
    return "cuda" if len(faster) == len(convs) and not others else "mixed"


def choices(plan: Plan, names: tuple[str, ...]) -> dict[str, str]:
    """For each shape of convolution in a plan, and of several in one launch, what runs it on a GPU and why, in words."""
    found: dict[str, str] = {}
    trunk = find_trunk(names)
    if trunk is not None and measured_trunks(plan, names):
        found[trunk_key(64, 3)] = f"cuda {trunk.kernel}, measured {trunk.speedup:g} times as fast as single launches"
    nodes = {node.output: node for node in plan.nodes if isinstance(node, Conv)}
    for output, (first, pair) in measured_pairs(plan, names).items():
        (middle, channels, kernel, _), second = first.weight.shape, nodes[output]
        key = pair_key(channels, kernel, middle, second.kernel, second.weight.shape[0])
        found[key] = f"cuda {pair.kernel}, measured {pair.speedup:g} times as fast as two launches"
    for node in plan.nodes:
        if isinstance(node, Conv):
            out, channels, kernel, _ = node.weight.shape
            measured = config_of(node, names).speedup
            config = faster_in_cuda(node, names)
            if config is not None:
                text = f"cuda {config.kernel}, measured {config.speedup:g} times as fast as triton"
            elif measured:
                text = f"triton, cuda was measured at {measured:g} times its speed"
            else:
                text = "triton, nothing was measured"
            found[conv_key(channels, out, kernel)] = text
    return found
