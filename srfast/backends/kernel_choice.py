"""Which kernels run which convolutions on a GPU: the compiled CUDA ones where they were measured to be faster than Triton's."""

from __future__ import annotations

from srfast.backends.cuda.convs import config_of, conv_reason
from srfast.kernels.configs import conv_key
from srfast.kernels.cuda.config import CudaConfig
from srfast.plan import Conv, Plan, Resize


def faster_in_cuda(node: Conv, names: tuple[str, ...]) -> CudaConfig | None:
    """The configuration of a convolution that was measured to take less time in CUDA than in Triton; None without that.

    Args:
        node: the convolution.
        names: under which measurements are looked up, from ``kernels.configs.device_names``.
    """
    config = config_of(node, names)
    return config if config.speedup > 1 and conv_reason(node) is None else None


def preferred(plan: Plan, names: tuple[str, ...]) -> str:
    """The backend for a plan: 'triton', 'cuda' or, convolution by convolution, 'mixed'.

    Without measurements that is Triton, which has a kernel for every operation. CUDA alone is for plans of nothing but
    convolutions, each of them faster there: it can fuse and overlap launches of its own kind.
    """
    convs = [node for node in plan.nodes if isinstance(node, Conv)]
    faster = [node for node in convs if faster_in_cuda(node, names)]
    if not faster:
        return "triton"
    others = [node for node in plan.nodes if not isinstance(node, (Conv, Resize))]
    return "cuda" if len(faster) == len(convs) and not others else "mixed"


def choices(plan: Plan, names: tuple[str, ...]) -> dict[str, str]:
    """For each shape of convolution in a plan, what runs it on a GPU and why, in words."""
    found: dict[str, str] = {}
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
