"""Checked access to the compiled CPU kernels: the fused convolutions of ``kernels.reference`` on whole networks, channels last.

The module ``srfast._cpu`` takes addresses; everything it is given is checked here. It is built by ``setup.py`` from
``csrc/cpu``; without it, ``unavailable_reason`` says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from srfast.kernels.cpu.classes import cpu_class, sets_of
from srfast.kernels.int8 import LowPrecision

_error = ""
try:
    import srfast._cpu as _cpu  # what it holds: srfast/_cpu.pyi
except ImportError as error:
    _cpu = None  # type: ignore[assignment]
    _error = str(error)


def unavailable_reason() -> str | None:
    """Why the compiled kernels cannot be used, and what helps; None if they can."""
    if _cpu is None:
        return f"the module srfast._cpu is missing ({_error}); install a C++ compiler (gcc or clang) and srfast again"
    return None


def instruction_sets() -> list[str]:
    """Instruction sets that this build and this CPU both have, fastest first; empty without the module."""
    return _cpu.instruction_sets() if _cpu is not None else []


def lowp_sets() -> list[str]:
    """Instruction sets with low-precision convolutions that this build and this CPU both have, fastest of each type first.

    'amx' and 'avx512_bf16' are bfloat16, 'amx_int8' and 'vnni' are int8; 'amx_emulated' and 'amx_int8_emulated' compute what AMX
    would, for tests.
    """
    return _cpu.lowp_sets() if _cpu is not None else []


def lowp_fits(kernel: int, in_channels: int, stride: int = 1) -> bool:
    """Whether the low-precision kernels cover a convolution: multiples of 32 input channels, kernels that are not too large."""
    return _cpu is not None and _cpu.lowp_fits(kernel, in_channels, stride)


@cache
def caches() -> tuple[int, int]:
    """Tell the bytes of one core's L2 cache and of the last level, from which the kernels choose how much to do at a time.

    Results do not depend on it. Without the compiled module, what is common.

    Example:
        >>> second, last = caches()
        >>> second <= last
        True
    """
    if _cpu is None:
        return 1 << 20, 32 << 20
    found = _cpu.caches()
    return found.second, found.last


def default_instruction_set() -> str:
    """The fastest of ``instruction_sets()`` that the CPU's class has; ``classes.VARIABLE`` may name a lower class.

    Raises:
        ValueError: the variable names no class.
    """
    known = instruction_sets()
    return next(name for name in sets_of(cpu_class()) if name in known)


def winograd_fits(kernel: int, in_channels: int, out_channels: int) -> bool:
    """Whether the Winograd kernels cover such a convolution: a multiple of 16 input channels, 3x3, 5x5, or 9x9 to at most 3."""
    return in_channels % 16 == 0 and (kernel in (3, 5) or (kernel == 9 and out_channels <= 3))


def fourier_fits(kernel: int, in_channels: int, out_channels: int) -> bool:
    """Whether a convolution gains by the Fourier transform: 7x7 to 25x25 from 16 or 32 channels to at most 32."""
    return in_channels in (16, 32) and out_channels <= 32 and 7 <= kernel <= 25


def tile_side(algorithm: str, kernel: int) -> int:
    """Rows and columns of results (before a shuffle) that are computed together, as one tile; 1 for a direct convolution."""
    if algorithm == "fourier":
        return 33 - kernel
    return 1 if algorithm == "direct" else 3 if kernel == 9 else 4


_Member = TypeVar("_Member")


class Step(NamedTuple):
    """Rows ``first`` .. ``last`` of a layer (before its shuffle), computed in one go.

    Attributes:
        layer: the number of the layer in the order in which they were added; -1 - i loads input i.
    """

    layer: int
    first: int
    last: int


@dataclass(frozen=True)
class _Activation:
    channels: int
    input: bool
    output: bool


class Network:
    """Fused convolutions and other nodes over numbered activations, run in one call for one image size at a time.

    Args:
        instruction_set: one of ``instruction_sets()`` or ``lowp_sets()``; by default ``default_instruction_set()``.
    """

    def __init__(self, instruction_set: str | None = None) -> None:
        reason = unavailable_reason()
        if reason:
            raise RuntimeError(reason)
        self.instruction_set = instruction_set or default_instruction_set()
        self._program = _cpu.Program(instruction_set=self.instruction_set, cache=caches()[0])
        self._activations: list[_Activation] = []
        self._scales: list[int] = []
        self._size = (0, 0)

    def activation(self, channels: int, *, input: bool = False, output: bool = False) -> int:  # noqa: A002
        """Adds an activation and returns its number. Inputs are loaded from tensors, outputs are written to tensors."""
        if channels < 1:
            raise ValueError(f"an activation has at least 1 channel, not {channels}")
        self._activations.append(_Activation(channels, input, output))
        return self._program.activation(channels, is_input=input, is_output=output)

    def conv(
        self,
        sources: int | Sequence[int],
        target: int,
        weight: Tensor,  # [O, C, k, k]
        bias: Tensor,  # [O]
        *,
        act: str = "none",
        slope: Tensor | None = None,  # of a PReLU, [1] or [O]
        shuffle: int = 1,
        stride: int = 1,
        offset: int = 0,
        gain: float = 1.0,
        residual: int | None = None,
        residual_factor: int = 1,
        clamp: tuple[float, float] | None = None,
        algorithm: str = "direct",
        lowp: LowPrecision | None = None,
    ) -> None:
        """Adds ``target = clamp(shuffle(act(conv(source) + bias)) * gain + residual)``; the tensors are copied.

        Args:
            sources, target, residual: numbers of activations; the channels of several sources are read in a row.
            act: the activation, the name of a member of ``srfast._cpu.Curve``.
            stride: beyond 1 also the kernel's side: results read squares side by side. Direct and low-precision kernels have it.
            offset: of a stride, the row and column where the first square begins; less than it, in either direction.
            residual_factor: the residual is enlarged by it, nearest neighbour.
            algorithm: 'direct', or transformed: 'winograd' or 'fourier'; see ``winograd_fits`` and ``fourier_fits``.
            lowp: in the low-precision type; see ``lowp_fits``.

        Raises:
            ValueError: names the argument that does not fit the others, the activations or the kernels.
        """
        out, channels, kernel, width = weight.shape
        inputs = [sources] if isinstance(sources, int) else list(sources)
        given = sum(self._activations[i].channels for i in inputs)
        if kernel != width or channels != given or bias.shape != (out,):
            raise ValueError(f"weight {list(weight.shape)} and bias {list(bias.shape)} on {given} channels")
        if algorithm != "direct" and lowp:
            raise ValueError("a convolution is transformed or in the low-precision type, not both")
        low, high = clamp or (float("-inf"), float("inf"))
        kept = [_values(t) for t in (weight, bias, torch.empty(0) if slope is None else slope)]
        spec = _cpu.ConvSpec(
            inputs=inputs,
            output=target,
            residual=residual,
            residual_factor=residual_factor,
            weight=_view(kept[0]),
            bias=_view(kept[1]),
            curve=_member("act", _cpu.Curve.__members__, act),
            slope=_view(kept[2]),
            out_channels=out,
            kernel=kernel,
            shuffle=shuffle,
            stride=stride,
            offset=offset,
            gain=gain,
            low=low,
            high=high,
            algorithm=_cpu.Algorithm.lowp if lowp else _member("algorithm", _cpu.Algorithm.__members__, algorithm),
            # The kernels multiply: the inverse is rounded once, here, and not at every value.
            input_inverse=1.0 / lowp.scale if lowp else 1.0,
            input_zero=lowp.zero if lowp else 0,
        )
        self._program.conv(spec)

    def node(
        self,
        sources: Sequence[int],
        target: int,
        operation: str,
        *,
        factor: int = 1,
        offset: int = 0,
        reach: int = 0,
        curve: str = "prelu",
        clamp: tuple[float, float] = (float("-inf"), float("inf")),
        eps: float = 0.0,
        channels: tuple[int, int] = (0, 0),
        groups: int = 1,
        inset: tuple[int, int] = (0, 0),
        centred: bool = True,
        contrast: bool = False,
        hard: bool = False,
        shift: float = 0.0,
        tensors: Sequence[Tensor] = (),
    ) -> None:
        """Adds an operation other than a convolution; ``backends.cpu.operations`` says what the operations take.

        Args:
            sources, target: numbers of activations.
            operation: the name of a member of ``srfast._cpu.Operation``.
            factor: of shuffles, pools and resizes.
            offset: of shuffles and unshuffles, where the enlarged image's first square begins; less than ``factor``.
            reach: rows and columns read beyond each pixel by a resize, a spatial gate or a depthwise convolution.
            curve: of an activation, a depthwise convolution or a gated sum, the name of a member of ``srfast._cpu.Curve``.
            channels: of a slice, the first and their number.
            groups: of channels that a group norm takes together.
            inset: rows and columns that a channel gate's means leave out, at the top and left, and at the others.
            centred: of a pixel norm, False to divide by the root of the mean square.
            contrast: of a channel gate, from deviations plus means.
            hard: of a channel gate, to end in a hard sigmoid.
            shift: of a gated sum, added to the curve.
            tensors: weights, which are copied; the module checks their sizes.

        Raises:
            ValueError: the activations or tensors do not fit the operation.
        """
        kept = [_values(t) for t in tensors]
        spec = _cpu.NodeSpec(
            inputs=list(sources),
            output=target,
            operation=_member("operation", _cpu.Operation.__members__, operation),
            factor=factor,
            offset=offset,
            reach=reach,
            curve=_member("curve", _cpu.Curve.__members__, curve),
            low=clamp[0],
            high=clamp[1],
            eps=eps,
            channels=channels,
            groups=groups,
            inset=inset,
            centred=centred,
            contrast=contrast,
            hard=hard,
            shift=shift,
            tensors=[_view(t) for t in kept],
        )
        self._program.node(spec)

    def row_floats(self, activation: int, width: int) -> int:
        """Floats that one row of ``width`` pixels takes in memory, with the zeros beside it."""
        return self._program.row_floats(activation, width)

    def layout(self, height: int, width: int, *, scales: Sequence[int], steps: Sequence[Step]) -> None:
        """Fixes image size and order of execution.

        Args:
            height, width: pixels of activations of scale 1.
            scales: of every activation, pixels for each of those along one side.
            steps: in the order of execution.

        Raises:
            ValueError: a step would read what is not in memory, or some rows are never written.
        """
        # Only a layout that was taken counts: one that is refused leaves the program with the one before.
        self._program.layout(*_order(height, width, scales, steps))
        self._scales, self._size = list(scales), (height, width)

    def working_bytes(self, height: int, width: int, *, scales: Sequence[int], steps: Sequence[Step]) -> int:
        """Bytes that the activations of such a layout take, for which rows share memory when they are not in use."""
        return self._program.working_bytes(*_order(height, width, scales, steps))

    def run(self, inputs: list[Tensor], outputs: list[Tensor], threads: int, *, reverse: bool = False) -> bool:
        """Runs the network on one image; False if a value of an integer output was NaN or infinite.

        Args:
            inputs, outputs: [H * scale, W * scale, C] float32, uint8 or uint16, on the CPU, in the order in which their
                activations were added. A uint16 value is 257 times what the network computes with. Outputs are contiguous;
                those of integers are rounded, and limited to what the type holds.
            threads: at most; results do not depend on it.
            reverse: the channels of inputs and outputs lie from the last to the first.
        """
        sources = [i for i, a in enumerate(self._activations) if a.input]
        targets = [i for i, a in enumerate(self._activations) if a.output]
        given = [self._buffer(t, i, reverse) for t, i in zip(inputs, sources, strict=True)]
        wanted = [self._buffer(t, i, reverse) for t, i in zip(outputs, targets, strict=True)]
        if not all(tensor.is_contiguous() for tensor in outputs):
            raise ValueError(f"outputs are contiguous, not of strides {[list(tensor.stride()) for tensor in outputs]}")
        return self._program.run(inputs=given, outputs=wanted, threads=max(1, threads))

    def seconds(self) -> tuple[list[float], float, float]:
        """Of the last run, on the thread that called it: seconds of every layer, of loading inputs, of waiting for threads."""
        found = self._program.seconds()
        return found.layers, found.loads, found.waits

    def _buffer(self, tensor: Tensor, activation: int, reverse: bool) -> _cpu.Buffer:
        height, width = self._size
        scale = self._scales[activation]
        expected = (height * scale, width * scale, self._activations[activation].channels)
        if tensor.shape != expected or tensor.device.type != "cpu":
            raise ValueError(
                f"activation {activation} is {list(expected)} on the CPU, not {list(tensor.shape)} on {tensor.device}"
            )
        element = _member("dtype of an activation", _cpu.Element.__members__, str(tensor.dtype).removeprefix("torch."))
        row, column, channel = tensor.stride()
        first = tensor.data_ptr()
        if reverse:
            first += (expected[2] - 1) * channel * tensor.element_size()
            channel = -channel
        return _cpu.Buffer(address=first, element=element, row=row, column=column, channel=channel)


def _values(tensor: Tensor) -> Tensor:
    """Return the values as the module reads them."""
    return tensor.detach().to("cpu", torch.float32).contiguous()


def _view(values: Tensor) -> _cpu.FloatView:
    """Point to ``_values``, which the caller keeps until they are copied."""
    return _cpu.FloatView(address=values.data_ptr(), count=values.numel())


def _order(height: int, width: int, scales: Sequence[int], steps: Sequence[Step]) -> tuple[_cpu.Size, list[_cpu.Step]]:
    """Return image size and order of execution as the module takes them."""
    return _cpu.Size(height=height, width=width, scales=list(scales)), [_cpu.Step(*step) for step in steps]


def _member(field: str, members: Mapping[str, _Member], name: str) -> _Member:
    """Return the member of an enumeration of the module.

    Raises:
        ValueError: it has none of that name.
    """
    if name not in members:
        raise ValueError(f"{field}: {name!r} is none of {', '.join(members)}")
    return members[name]
