"""The CUDA backend: convolutions in the compiled kernels, everything else in PyTorch, one CUDA graph for each size."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from srfast.backends.base import Executable
from srfast.backends.cuda_program import CudaStep, Program, conv_reason, pack_plan
from srfast.backends.graphs import Sequence
from srfast.kernels import cuda
from srfast.kernels.cuda_config import find_config
from srfast.kernels.triton_config import device_names
from srfast.plan import Conv, Plan

_OLDEST = (8, 0)
# Sizes kept ready: an image's tiles have one size, and a stream may change its own.
_SIZES = 2


class CudaBackend:
    """float16 and bfloat16 on NVIDIA GPUs from Ampere on.

    Args:
        graphs: replays CUDA graphs instead of launching kernel by kernel.
    """

    name = "cuda"

    def __init__(self, graphs: bool = True) -> None:
        self._graphs = graphs

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = [reason] if (reason := cuda.unavailable_reason()) else []
        if dtype not in cuda.DTYPES:
            reasons.append(f"it computes in float16 or bfloat16, not {str(dtype).removeprefix('torch.')}")
        reasons += _device_reasons(device)
        shapes = {node.weight.shape for node in plan.nodes if isinstance(node, Conv)}
        return reasons + sorted({text for shape in shapes if (text := conv_reason(*shape[:3]))})

    def measured_faster(self, plan: Plan, device: torch.device) -> bool:
        """Whether the shipped measurements say that the plan's convolutions take less time here than in Triton."""
        if device.type != "cuda" or not torch.cuda.is_available():
            return False
        return _measured_gain(plan, device_names(device)) > 1

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        return CudaExecutable(plan, device, dtype, graphs=self._graphs and device.type == "cuda")


def _measured_gain(plan: Plan, names: tuple[str, ...]) -> float:
    """Time of all convolutions in Triton over that in CUDA, weighted by their work; 0 if one was never measured."""
    shapes, work, time = plan.shapes(), 0.0, 0.0
    for node in plan.nodes:
        if isinstance(node, Conv):
            out, channels, kernel, _ = node.weight.shape
            speedup = find_config(names, channels, out, kernel).speedup
            if not speedup:
                return 0.0
            flops = float(node.weight.numel() * shapes[node.input].scale ** 2)
            work, time = work + flops, time + flops / speedup
    return work / time if time else 0.0


def _device_reasons(device: torch.device) -> list[str]:
    if device.type == "cpu" and cuda.emulated():
        return []
    if device.type != "cuda":
        return [f"it runs on GPUs, not on {device}"]
    if not torch.cuda.is_available():
        return ["PyTorch sees no GPU"]
    if torch.version.hip is not None:
        return ["it runs on NVIDIA GPUs"]
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST:
        return [f"it needs compute capability 8.0, this GPU has {capability[0]}.{capability[1]}"]
    # Machine code runs on its own generation's later chips; 90a on 9.0 only.
    built = {int(arch.rstrip("a")) for arch in cuda.architectures()}
    if not any(arch // 10 == capability[0] and arch % 10 <= capability[1] for arch in built):
        return [f"srfast._cuda was built for {sorted(built)}, not for this GPU's {capability[0]}{capability[1]}"]
    return []


class CudaExecutable:
    """A plan with packed weights; keeps the activations and graphs of the last sizes."""

    def __init__(self, plan: Plan, device: torch.device, dtype: torch.dtype, graphs: bool) -> None:
        self._plan, self._device, self._dtype, self._graphs = plan, device, dtype, graphs
        self._steps = pack_plan(plan, device_names(device), dtype, device)
        self._sizes: OrderedDict[tuple[int, int, int], _Size] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', s * H, s * W], a new tensor, channels last."""
        with self._on_device():
            return self._size(x.shape[0], x.shape[2], x.shape[3]).run_tensor(x)

    @torch.inference_mode()
    def run_frames(self, frames: Tensor, gain: float, units: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        """Integer frames in and out, converted by the kernels; see ``base.FrameExecutable``."""
        with self._on_device():
            return self._size(*frames.shape[:3]).run_frames(frames, gain, units, bgr)

    def _size(self, images: int, height: int, width: int) -> _Size:
        key = (images, height, width)
        if key not in self._sizes:
            while len(self._sizes) >= _SIZES:
                self._sizes.popitem(last=False)
            try:
                self._sizes[key] = _Size(self._plan, self._steps, key, self._dtype, self._device, self._graphs)
            except torch.OutOfMemoryError:
                # The caller goes on with smaller images: leave it the memory.
                self._sizes.clear()
                raise
        self._sizes.move_to_end(key)
        return self._sizes[key]

    def _on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()


class _Size:
    """The launches for one size, for tensors and for each kind of frames."""

    def __init__(
        self,
        plan: Plan,
        steps: list[CudaStep],
        size: tuple[int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        graphs: bool,
    ) -> None:
        self._program, self._graphs, self._device = Program(plan, steps, size, dtype, device), graphs, device
        images, height, width = size
        self._out_shape = (images, height * plan.scale, width * plan.scale, plan.out_channels)
        self._tensor: Sequence | None = None
        self._frames: dict[tuple[torch.dtype, float, float, bool], tuple[Sequence, Tensor, Tensor, Tensor]] = {}

    def run_tensor(self, x: Tensor) -> Tensor:
        """Fills the source, runs, and copies the result out of its fixed place."""
        if self._tensor is None:
            self._tensor = Sequence([*self._program.body, *self._program.finish()], self._graphs)
        self._program.source.nchw().copy_(x)
        self._tensor.run()
        return self._program.result.nchw().clone(memory_format=torch.channels_last)

    def run_frames(self, frames: Tensor, gain: float, units: float, bgr: bool) -> tuple[Tensor, Tensor]:
        """As ``CudaExecutable.run_frames``."""
        key = (frames.dtype, gain, units, bgr)
        if key not in self._frames:
            place = torch.empty(frames.shape, dtype=frames.dtype, device=self._device)
            out = torch.empty(self._out_shape, dtype=frames.dtype, device=self._device)
            flag = torch.zeros(1, dtype=torch.int32, device=self._device)
            launches = self._program.frame_launches(place, out, flag, gain, units, bgr)
            self._frames[key] = Sequence(launches, self._graphs), place, out, flag
        sequence, place, out, flag = self._frames[key]
        place.copy_(frames, non_blocking=True)
        sequence.run()
        return out, flag
