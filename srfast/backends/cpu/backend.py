"""The CPU backend: the compiled kernels of ``csrc/cpu``, or oneDNN.

The compiled kernels take a whole plan as one network, whose convolutions they run depth first. Through oneDNN, which is the
usual way in bfloat16 and the only one without the compiled module or where a plan has an operation that the kernels have not,
nodes run one by one. ``choice`` says which way is taken.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srfast.backends.base import Executable, TilingTraits, reference_only, release_after
from srfast.backends.cpu.choice import choose
from srfast.backends.cpu.lower import lowered
from srfast.backends.cpu.network import CompiledExecutable, CompiledNetwork
from srfast.backends.cpu.onednn import missing_reason, onednn_build, onednn_step
from srfast.backends.cpu.quantize import direct_convs, lowp_convs
from srfast.backends.cpu.ways import Way, runnable
from srfast.backends.int8 import Int8
from srfast.backends.measured import network_kind
from srfast.devices import on_cpu
from srfast.kernels import cpu as kernels
from srfast.kernels.cpu.classes import cpu_class
from srfast.kernels.int8 import LowPrecision
from srfast.plan import Plan

INT8_SETS = ("amx_int8", "vnni")  # instruction sets of 8-bit convolutions, faster first
_BF16_SETS = ("amx", "avx512_bf16", "amx_emulated")  # those of bfloat16
_log = logging.getLogger("srfast")


def has_bf16() -> bool:
    """True where the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX), or ``SRFAST_CPU`` says so."""
    return cpu_class() in ("avx512_bf16", "amx")


@dataclass(frozen=True)
class CpuBackend:
    """float32 and, where the CPU has it, bfloat16, in the way that ``choice`` takes for the network.

    Args:
        winograd: the compiled 3x3 and 5x5 convolutions go through the Winograd transform: 2.8 to 4 times fewer
            multiplications, at about twice the rounding error of direct float32 convolutions (still hundreds of times below
            that of bfloat16); those of 7x7 and more on 16 or 32 channels go through the Fourier transform, up to 35 times fewer
            multiplications at a tenth of the rounding error. Without it every sum is formed directly.
        int8: what ``calibrate.calibrate`` made of the plan: its convolutions run in 8 bits.
        path: the way instead of the chosen one: "onednn", for float32 an instruction set of the compiled kernels, or for
            bfloat16 srfast's own kernels between float32 activations, "amx", or "avx512_bf16" for the convolutions that no
            transform makes faster.

    Raises:
        ValueError: the CPU or the build lacks what ``int8`` or ``path`` needs.

    Examples:
        >>> from srfast.upscaler import Upscaler
        >>> exact = Upscaler("compact_x2", device="cpu", dtype="fp32", backend=CpuBackend(winograd=False))
        >>> exact.engine.backend.name
        'cpu'
    """

    name: ClassVar[str] = "cpu"

    winograd: bool = True
    int8: Int8 | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        if self.int8 and int8_set() is None:
            raise ValueError("8-bit convolutions need the compiled kernels and a CPU with AVX512-VNNI or AMX-INT8")
        lowp = [name for name in kernels.lowp_sets() if name in _BF16_SETS]
        known = ["onednn", *kernels.instruction_sets(), *lowp]
        if self.path is not None and self.path not in known:
            raise ValueError(f"this build and this CPU have no {self.path!r}; there are {', '.join(known)}")

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
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

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        return self.device_reasons(device, dtype)  # what the kernels have not, oneDNN and PyTorch run

    @on_cpu
    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        way = self._way(plan, dtype)
        bf16 = way.path in _BF16_SETS
        # Between the products of these kernels all stays float32, biases and slopes too; weights they round as they pack them.
        plan = plan.map_tensors(lambda t: t.to(torch.float32 if bf16 else dtype))
        # The ranges were found between float32 activations, so they hold for no other.
        int8 = self.int8 if dtype == torch.float32 else None
        if (way.path == "onednn" and int8 is None) or not plan.nodes or reference_only(plan):
            return _Steps(plan)
        lowp: dict[str, LowPrecision] = {}
        instruction_set: str | None = way.path
        if way.path == "avx512_bf16":
            # As the kernels have it, for some convolutions become 1x1 there.
            plan = lowered(plan, winograd=self.winograd)
            lowp = {node.output: LowPrecision() for node in direct_convs(plan, winograd=self.winograd)}
        elif bf16:
            lowp = {node.output: LowPrecision() for node in lowp_convs(plan)}
        elif int8 is not None:
            lowp, instruction_set = dict(int8.convs), int8_set()
        network = CompiledNetwork(plan, winograd=self.winograd, lowp=lowp, instruction_set=instruction_set)
        return CompiledExecutable(network)

    def _way(self, plan: Plan, dtype: torch.dtype) -> Way:
        """The way for a plan; the chosen one is told in the log, with its reason."""
        # A named path is one of a dtype, except oneDNN: in the other dtype, as where samples of more bits go through
        # float32, it says nothing.
        if self.path == "onednn" or (self.path is not None and (self.path in _BF16_SETS) == (dtype == torch.bfloat16)):
            return Way(dtype, self.path)
        choice = choose(network_kind(plan), dtype)
        _log.info("%s: %s", choice.way.words, choice.reason)
        way = runnable(choice.way)
        if way != choice.way:
            _log.info("%s, in place of what this CPU or build lacks", way.words)
        return way


def int8_set() -> str | None:
    """The instruction set that 8-bit convolutions run on here; None where there is none."""
    return next((name for name in INT8_SETS if name in kernels.lowp_sets()), None)


class _Steps(Executable):
    """The plan node by node through oneDNN and plain torch."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(TilingTraits.of(plan))
        self._plan, self._release = plan, release_after(plan)
        self._steps = [onednn_step(plan, index, unused) for index, unused in enumerate(self._release)]
        self.path = onednn_build()

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        # Once, here: oneDNN keeps channels last from node to node, and would turn anything else round at every
        # convolution.
        values = {self._plan.input: x.contiguous(memory_format=torch.channels_last)}
        with torch.autocast(x.device.type, enabled=False):  # the dtype is the one that was asked for
            for node, step, unused in zip(self._plan.nodes, self._steps, self._release, strict=True):
                values[node.output] = step(values)
                for name in unused:
                    values.pop(name, None)
        return values[self._plan.output]
