"""The CPU backend: in float32 the compiled kernels of ``csrc/cpu``, in bfloat16 oneDNN.

A plan is cut into parts. Runs of convolutions (PReLU or no activation) go to the compiled kernels as one network, which runs
them depth first. Other nodes run one by one through oneDNN or plain torch, and so does everything where the compiled module
is missing or the type is bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from srfast.backends.base import Executable, release_after
from srfast.backends.cpu_int8 import Int8
from srfast.backends.cpu_network import TILE, CompiledPart, is_compiled, is_folded
from srfast.backends.cpu_onednn import missing_reason, onednn_step
from srfast.kernels import cpu as kernels
from srfast.plan import Plan

INT8_SET = "vnni"  # the instruction set of 8-bit convolutions

Part = Callable[[dict[str, Tensor]], None]


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
    """

    name = "cpu"

    def __init__(self, *, winograd: bool = True, compiled: bool = True, int8: Int8 | None = None) -> None:
        if int8 and INT8_SET not in kernels.narrow_sets():
            raise ValueError("8-bit convolutions need the compiled kernels and a CPU with AVX512-VNNI")
        self.winograd = winograd
        self.compiled = compiled
        self.int8 = int8

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
        plan = plan.map_tensors(lambda t: t.to(dtype))
        compiled = self.compiled and dtype == torch.float32 and kernels.unavailable_reason() is None
        narrow: dict[str, Any] = {}
        if self.int8 and compiled:
            narrow = {"narrow": self.int8.convs, "instruction_set": INT8_SET}
        parts = _parts(plan, compiled, self.winograd, **narrow)
        first = parts[0][0]
        if len(parts) == 1 and isinstance(first, CompiledPart) and first.outputs == [plan.output]:
            return _FrameExecutable(plan, parts, first)
        return _CpuExecutable(plan, parts)


class _CpuExecutable:
    """Runs the parts of a plan; says what windows make its results independent of the tiling."""

    def __init__(self, plan: Plan, parts: list[tuple[Part, range]]) -> None:
        self._plan, self._parts = plan, parts
        self._last = release_after(plan)
        compiled = [part for part, _ in parts if isinstance(part, CompiledPart)]
        transformed = {id(node) for part in compiled for node in part.transformed}
        self.alignment = (TILE if transformed else 1) * plan.alignment
        self.halo = plan.halo(lambda node: TILE if id(node) in transformed else 1)
        self.exact = len(compiled) == len(parts)
        if self.exact:
            self.bytes_per_pixel = sum(part.bytes_per_pixel() for part in compiled)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        values = {self._plan.input: x.contiguous(memory_format=torch.channels_last)}
        for part, nodes in self._parts:
            part(values)
            for index in nodes:
                for name in self._last[index]:
                    values.pop(name, None)
        return values[self._plan.output]


class _FrameExecutable(_CpuExecutable):
    """A plan that is one compiled part: bytes are read and written by its first and last kernel."""

    def __init__(self, plan: Plan, parts: list[tuple[Part, range]], part: CompiledPart) -> None:
        super().__init__(plan, parts)
        self._part = part

    @torch.inference_mode()
    def run_frames(self, frames: Tensor, gain: float, units: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        """As ``FrameExecutable.run_frames``; the result is not overwritten by the next call."""
        if bgr:
            out, bad = self.run_frames(_reversed_channels(frames), gain, units)
            return _reversed_channels(out), bad
        if frames.dtype == torch.uint8 and gain == 1.0 and units == 255.0:
            (y,), finite = self._part.run([frames], torch.uint8)
            return y, torch.tensor([not finite])
        peak = float(torch.iinfo(frames.dtype).max)
        (y,), finite = self._part.run([frames.float() * gain], torch.float32)
        bad = ~torch.isfinite(y.sum(dtype=torch.float32)) | (not finite)
        return (y * (peak / units)).round_().clamp_(0, peak).to(frames.dtype), bad.view(1)


def _reversed_channels(frames: Tensor) -> Tensor:
    """[..., C] with its channels in reverse; PyTorch flips no uint16, whose bits go as int16."""
    if frames.dtype == torch.uint16:
        return frames.view(torch.int16).flip(-1).view(torch.uint16)
    return frames.flip(-1)


def _parts(plan: Plan, compiled: bool, winograd: bool, **narrow: Any) -> list[tuple[Part, range]]:
    """The plan in parts, each with the indices of its nodes."""
    release = release_after(plan)
    parts: list[tuple[Part, range]] = []
    index = 0
    while index < len(plan.nodes):
        end = index
        while (
            compiled
            and end < len(plan.nodes)
            and (is_compiled(plan, plan.nodes[end], winograd) or is_folded(plan, end, winograd))
        ):
            end += 1
        # An enlarged skip is only folded together with the convolution that adds it.
        if end > index and any(is_compiled(plan, node, winograd) for node in plan.nodes[index:end]):
            parts.append((CompiledPart(plan, range(index, end), winograd=winograd, **narrow), range(index, end)))
        else:
            end = index + 1
            parts.append((_single(plan, index, release[index]), range(index, end)))
        index = end
    return parts


def _single(plan: Plan, index: int, unused: list[str]) -> Part:
    step = onednn_step(plan, index, unused)

    def run(values: dict[str, Tensor]) -> None:
        values[plan.nodes[index].output] = step(values)

    return run
