"""The CPU backend: in float32 the compiled kernels of ``csrc/cpu``, in bfloat16 oneDNN.

The compiled kernels take a whole plan as one network, whose convolutions they run depth first. Where the compiled module is
missing, a plan has an operation that they have not, and in bfloat16, nodes run one by one through oneDNN or plain torch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from srfast.backends.base import Executable, reference_only, release_after
from srfast.backends.cpu.network import CompiledNetwork
from srfast.backends.cpu.onednn import missing_reason, onednn_step
from srfast.backends.cpu.quantize import Int8, narrow_convs
from srfast.kernels import cpu as kernels
from srfast.plan import Conv, Plan

INT8_SETS = ("amx_int8", "vnni")  # instruction sets of 8-bit convolutions, faster first


def has_bf16() -> bool:
    """True where the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class CpuBackend:
    """Compiled kernels in float32, oneDNN in bfloat16 where the CPU has it.

    Args:
        winograd: the compiled 3x3 and 5x5 convolutions go through the Winograd transform: 2.8 to 4 times fewer
            multiplications, at about twice the rounding error of direct float32 convolutions (still hundreds of times below
            that of bfloat16). Without it every sum is formed directly.
        compiled: False leaves float32 to oneDNN as well.
        int8: what ``cpu_int8.calibrate`` made of the plan: its convolutions run in 8 bits.
        bf16: "amx" runs the convolutions of bfloat16 on srfast's own AMX kernels, between float32 activations; None leaves
            them to oneDNN, as nobody has measured which is faster.

    Raises:
        ValueError: the CPU or the build lacks what ``int8`` or ``bf16`` needs.
    """

    name = "cpu"

    def __init__(
        self, *, winograd: bool = True, compiled: bool = True, int8: Int8 | None = None, bf16: str | None = None
    ) -> None:
        if int8 and int8_set() is None:
            raise ValueError("8-bit convolutions need the compiled kernels and a CPU with AVX512-VNNI or AMX-INT8")
        if bf16 and bf16 not in kernels.narrow_sets():
            raise ValueError(f"this build and this CPU have no {bf16!r}; there are {kernels.narrow_sets()}")
        self.winograd = winograd
        self.compiled = compiled
        self.int8 = int8
        self.bf16 = bf16

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = []
        if device.type != "cpu":
            reasons.append(f"it runs on the CPU, not on {device}")
        if dtype not in (torch.float32, torch.bfloat16):
            reasons.append(f"it computes in float32 or bfloat16, not {str(dtype).removeprefix('torch.')}")
        if dtype == torch.bfloat16 and not has_bf16():
            reasons.append("this CPU has neither AVX512-BF16 nor AMX, so bfloat16 would be slower than float32")
        without = missing_reason()
        if without:
            reasons.append(without)
        return reasons

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        kept = dtype if self.bf16 is None else torch.float32
        plan = plan.map_tensors(lambda t: t.to(kept))
        narrow: dict[str, Any] = {}
        if dtype == torch.bfloat16 and self.bf16:
            narrow = {"narrow": {n.output: kernels.Narrow() for n in narrow_convs(plan)}, "instruction_set": self.bf16}
        elif self.int8 and dtype == torch.float32:
            narrow = {"narrow": self.int8.convs, "instruction_set": int8_set()}
        compiled = self.compiled and kept == torch.float32 and kernels.unavailable_reason() is None
        if compiled and plan.nodes and not reference_only(plan):
            return _CompiledExecutable(CompiledNetwork(plan, winograd=self.winograd, **narrow))
        return _steps(plan)


def int8_set() -> str | None:
    """The instruction set that 8-bit convolutions run on here; None where there is none."""
    return next((name for name in INT8_SETS if name in kernels.narrow_sets()), None)


class _CompiledExecutable:
    """A plan on the compiled kernels, which also read and write bytes; says what windows make results independent of tiling."""

    exact = True

    def __init__(self, network: CompiledNetwork) -> None:
        self._network = network
        plan, transformed = network.plan, {id(node) for node in network.transformed}

        def tile(node: Conv) -> int:
            return kernels.winograd_tile(node.kernel) if id(node) in transformed else 1

        self.alignment = plan.alignment * math.lcm(*(tile(node) for node in plan.nodes if isinstance(node, Conv)))
        self.halo = plan.halo(tile)
        self.bytes_per_pixel = network.bytes_per_pixel()

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        y, finite = self._network.run(x.permute(0, 2, 3, 1).float(), torch.float32)
        # Narrow integers cannot say so themselves.
        return (y if finite else y.fill_(math.nan)).permute(0, 3, 1, 2).to(x.dtype)

    @torch.inference_mode()
    def run_frames(self, frames: Tensor, gain: float, units: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        """As ``FrameExecutable.run_frames``; the result is not overwritten by the next call."""
        if bgr:
            out, bad = self.run_frames(_reversed_channels(frames), gain, units)
            return _reversed_channels(out), bad
        if frames.dtype == torch.uint8 and gain == 1.0 and units == 255.0:
            y, finite = self._network.run(frames, torch.uint8)
            return y, torch.tensor([not finite])
        peak = float(torch.iinfo(frames.dtype).max)
        y, finite = self._network.run(frames.float() * gain, torch.float32)
        bad = ~torch.isfinite(y.sum(dtype=torch.float32)) | (not finite)
        return (y * (peak / units)).round_().clamp_(0, peak).to(frames.dtype), bad.view(1)


def _reversed_channels(frames: Tensor) -> Tensor:
    """[..., C] with its channels in reverse; PyTorch flips no uint16, whose bits go as int16."""
    if frames.dtype == torch.uint16:
        return frames.view(torch.int16).flip(-1).view(torch.uint16)
    return frames.flip(-1)


def _steps(plan: Plan) -> Executable:
    """The plan node by node through oneDNN and plain torch."""
    release = release_after(plan)
    steps = [onednn_step(plan, index, unused) for index, unused in enumerate(release)]

    @torch.inference_mode()
    def run(x: Tensor) -> Tensor:
        values = {plan.input: x.contiguous(memory_format=torch.channels_last)}
        for node, step, unused in zip(plan.nodes, steps, release, strict=True):
            values[node.output] = step(values)
            for name in unused:
                values.pop(name, None)
        return values[plan.output]

    return run
