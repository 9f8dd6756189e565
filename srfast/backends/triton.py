"""The Triton backend: every node a fused kernel over preallocated canvases, one CUDA graph for each size."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from srfast.backends.base import Executable
from srfast.backends.graphs import Launch, Sequence
from srfast.kernels.planes import PlaneColour, Planes
from srfast.plan import Plan

if TYPE_CHECKING:
    from srfast.backends.triton_program import Program

_DTYPES = (torch.float16, torch.bfloat16)
_OLDEST = (8, 0)
# Input pixels for each multiprocessor that leave little of it idle: four programs of 128 pixels, one after another.
_FILL = 512
# Sizes kept ready: an image's tiles have one size, and a stream may change its own.
_SIZES = 2


class TritonBackend:
    """float16 and bfloat16 on NVIDIA GPUs from Ampere on.

    Args:
        interpret: also runs on the CPU under TRITON_INTERPRET=1, for tests.
        graphs: replays CUDA graphs instead of launching kernel by kernel.
    """

    name = "triton"

    def __init__(self, interpret: bool = False, graphs: bool = True) -> None:
        self._interpret = interpret
        self._graphs = graphs

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = []
        if importlib.util.find_spec("triton") is None:
            reasons.append("Triton is not installed (pip install triton)")
        if dtype not in _DTYPES:
            reasons.append(f"it computes in float16 or bfloat16, not {str(dtype).removeprefix('torch.')}")
        if not (self._interpret and device.type == "cpu"):
            reasons += _device_reasons(device)
        return reasons

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        return TritonExecutable(plan, device, dtype, graphs=self._graphs and device.type == "cuda")


def _device_reasons(device: torch.device) -> list[str]:
    if device.type != "cuda":
        return [f"it runs on GPUs, not on {device}"]
    if not torch.cuda.is_available():
        return ["PyTorch sees no GPU"]
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability < _OLDEST:
        given, oldest = (".".join(map(str, c)) for c in (capability, _OLDEST))
        return [f"it needs compute capability {oldest}, this GPU has {given}"]
    return []


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


class TritonExecutable:
    """A plan with packed weights; keeps the canvases and graphs of the last sizes."""

    def __init__(self, plan: Plan, device: torch.device, dtype: torch.dtype, graphs: bool) -> None:
        # Triton decides when it is imported whether to interpret, and a process that never runs it need not import it.
        from srfast.backends.triton_steps import pack_plan
        from srfast.kernels.triton_config import device_names

        self._plan, self._device, self._dtype, self._graphs = plan, device, dtype, graphs
        self._steps = pack_plan(plan, device_names(device), dtype, device)
        self._sizes: OrderedDict[tuple[int, int, int], _Size] = OrderedDict()
        self.fill = _FILL * _multiprocessors(device)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', s * H, s * W], a new tensor, channels last."""
        with self._on_device():
            size = self._size(x.shape[0], x.shape[2], x.shape[3])
            return size.run_tensor(x)

    @torch.inference_mode()
    def run_frames(self, frames: Tensor, gain: float, units: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        """Integer frames in and out, converted by the kernels.

        Args:
            frames: [N, H, W, C] uint8 or uint16, on any device, with any strides.
            gain: network input for each step of the frames' integers.
            units: value of the network's white.
            bgr: the frames' channels, in and out, are in the reverse of the network's order.

        Returns:
            [N, s * H, s * W, C'] of the frames' dtype on the backend's device, overwritten by the next call; and a [1]
            int32 tensor, not 0 where a value was NaN or infinite.
        """
        with self._on_device():
            size = self._size(*frames.shape[:3])
            return size.run_frames(frames, gain, units, bgr)

    @torch.inference_mode()
    def run_planes(self, planes: Planes, peak: float, units: float) -> tuple[Planes, Tensor]:
        """Video planes in and out, converted by the kernels.

        Args:
            planes: on any device; RGB white is ``peak`` to the network.
            units: value of the network's white.

        Returns:
            Planes of the larger picture on the backend's device, overwritten by the next call; the flag of ``run_frames``.
        """
        with self._on_device():
            size = self._size(*planes.luma.shape[:3])
            return size.run_planes(planes, peak, units)

    def _size(self, images: int, height: int, width: int) -> _Size:
        from srfast.backends.triton_program import Program

        key = (images, height, width)
        if key not in self._sizes:
            while len(self._sizes) >= _SIZES:
                self._sizes.popitem(last=False)
            try:
                program = Program(self._plan, self._steps, *key, self._dtype, self._device)
            except torch.OutOfMemoryError:
                # The caller goes on with smaller images: leave it the memory.
                self._sizes.clear()
                raise
            self._sizes[key] = _Size(program, self._plan, self._graphs)
        self._sizes.move_to_end(key)
        return self._sizes[key]

    def _on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()


class _Size:
    """The launches for one size, for tensors and for each kind of frames."""

    def __init__(self, program: Program, plan: Plan, graphs: bool) -> None:
        self._program, self._graphs = program, graphs
        source = program.source
        self._images, self._channels, self._device = source.images, source.channels, source.data.device
        self._out_size = (source.images, source.height * plan.scale, source.width * plan.scale)
        self._out_shape = (*self._out_size, plan.out_channels)
        self._tensor: tuple[Sequence, Tensor] | None = None
        self._frames: dict[tuple[torch.dtype, float, float, bool], tuple[Sequence, Tensor, Tensor, Tensor]] = {}
        self._planes: dict[tuple[PlaneColour, float, float], tuple[Sequence, Planes, Planes, Tensor]] = {}

    def run_tensor(self, x: Tensor) -> Tensor:
        """Fills the source, runs, and copies the result out of its fixed place."""
        from srfast.kernels.canvas import Canvas

        source = self._program.source
        if self._tensor is None:
            out = torch.empty(self._out_shape, dtype=source.data.dtype, device=self._device)
            target = Canvas(out, self._out_shape[1], self._out_shape[2], self._out_shape[3], 0)
            launches = [*self._program.body, *self._program.finish(target)]
            self._tensor = Sequence(launches, self._graphs), out
        sequence, out = self._tensor
        source.nchw().copy_(x)
        sequence.run()
        return out.clone().permute(0, 3, 1, 2)

    def run_frames(self, frames: Tensor, gain: float, units: float, bgr: bool) -> tuple[Tensor, Tensor]:
        """As ``TritonExecutable.run_frames``."""
        key = (frames.dtype, gain, units, bgr)
        if key not in self._frames:
            self._frames[key] = self._frame_sequence(frames, gain, units, bgr)
        sequence, place, out, flag = self._frames[key]
        place.copy_(frames, non_blocking=True)
        sequence.run()
        return out, flag

    def run_planes(self, planes: Planes, peak: float, units: float) -> tuple[Planes, Tensor]:
        """As ``TritonExecutable.run_planes``."""
        key = (planes.colour, peak, units)
        if key not in self._planes:
            self._planes[key] = self._plane_sequence(planes, peak, units)
        sequence, place, out, flag = self._planes[key]
        place.copy_(planes, non_blocking=True)
        sequence.run()
        return out, flag

    def _frame_sequence(
        self, frames: Tensor, gain: float, units: float, bgr: bool
    ) -> tuple[Sequence, Tensor, Tensor, Tensor]:
        from srfast.kernels.triton_conv_launch import FrameTarget

        place = torch.empty(frames.shape, dtype=frames.dtype, device=self._device)
        out = torch.empty(self._out_shape, dtype=frames.dtype, device=self._device)
        flag = torch.zeros(1, dtype=torch.int32, device=self._device)
        target = FrameTarget(out, units, flag, bgr)
        launches = [self._program.load(place, gain, bgr), *self._program.body, *self._program.finish_frames(target)]
        return self._sequence(launches, flag), place, out, flag

    def _plane_sequence(self, planes: Planes, peak: float, units: float) -> tuple[Sequence, Planes, Planes, Tensor]:
        images, height, width, _ = planes.luma.shape
        place = Planes.empty(images, height, width, planes.colour, self._device)
        out = Planes.empty(*self._out_size, planes.colour, self._device)
        flag = torch.zeros(1, dtype=torch.int32, device=self._device)
        end = self._program.finish_planes(out, units, flag)
        return (
            self._sequence([self._program.load_planes(place, peak), *self._program.body, *end], flag),
            place,
            out,
            flag,
        )

    def _sequence(self, launches: list[Launch], flag: Tensor) -> Sequence:
        return Sequence([lambda: _clear(flag), *launches], self._graphs)


def _clear(flag: Tensor) -> None:
    flag.zero_()
