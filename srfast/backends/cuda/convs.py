"""A plan's convolutions in the compiled CUDA kernels, one by one."""

from __future__ import annotations

from dataclasses import replace

import torch

from srfast.backends.gpu.layout import epilogue_of
from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.config import CudaConfig, find_config
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.hopper import hopper_fits, hopper_launch
from srfast.kernels.cuda.pack import ACTS, CudaConv, Variant, choose_variant, pack_conv
from srfast.kernels.targets import FrameTarget
from srfast.plan import Conv, Depthwise, Plan
from srfast.plan.passes import with_curves_apart


def conv_reason(node: Conv) -> str | None:
    """Why the kernels cannot run a convolution; None if they can."""
    kernel = node.kernel
    if node.act not in ACTS:
        return f"its convolutions end in {', '.join(ACTS)}, not in {node.act}"
    if kernel > 9:
        return f"its kernels go up to 9x9, not {kernel}x{kernel}"
    return None


def kernel_plan(plan: Plan) -> Plan:
    """The plan with the operations of the kernels: other activations by themselves, depthwise convolutions dense.

    Depthwise ones of large kernels or many channels stay as they are, for PyTorch: most of a dense one's products are by zero,
    and beyond 64 channels these are many. Nobody has measured either on a GPU yet.
    """
    nodes = [n.dense() if isinstance(n, Depthwise) and n.kernel <= 9 and len(n.bias) <= 64 else n for n in plan.nodes]
    return with_curves_apart(replace(plan, nodes=tuple(nodes)), ACTS)


def config_of(node: Conv, names: tuple[str, ...]) -> CudaConfig:
    """The configuration of a convolution, by the names of a GPU."""
    out, channels, kernel, _ = node.weight.shape
    return find_config(names, channels, out, kernel)


def pack_node(node: Conv, config: CudaConfig, dtype: torch.dtype, device: torch.device) -> CudaConv:
    """Packs a convolution once, for the kernel that its configuration names."""
    out, channels, kernel, _ = node.weight.shape
    variant = choose_variant(channels, out, kernel)
    if config.kernel == "mma_large" and variant == Variant(64, 64, 3):
        variant = Variant(64, 64, 3, 16, 16)
    return pack_conv(node.weight, node.bias, **epilogue_of(node), variant=variant, dtype=dtype, device=device)


def single_launch(
    x: Canvas,
    conv: CudaConv,
    config: CudaConfig,
    out: Canvas | FrameTarget,
    residual: Canvas | None,
    programmatic: bool = False,
) -> cuda.Launch:
    """The launch of a packed convolution by its configured kernel, or by one that fits."""
    if isinstance(out, Canvas) and config.kernel.startswith("wgmma") and hopper_fits(x, conv) is None:
        return hopper_launch(x, conv, out, residual, form=config.kernel, programmatic=programmatic)
    return conv_launch(x, conv, out, residual, programmatic)
