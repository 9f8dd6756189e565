"""Checked access to the compiled CPU kernels: the fused convolutions of ``kernels.conv`` on whole networks, channels last.

The module ``srfast._cpu`` takes addresses; everything it is given is checked here. It is built by ``setup.py`` from
``csrc/cpu``; without it, ``unavailable_reason`` says what to do.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from srfast.kernels.cpu.classes import cpu_class, sets_of

_cpu: Any = None
_error = ""
try:
    # By name: the module need not be there, for type checkers either.
    _cpu = importlib.import_module("srfast._cpu")
except ImportError as error:
    _error = str(error)

# In the order of csrc/cpu/node.h.
OPERATIONS = (
    *("affine", "activate", "clamp", "add", "multiply", "concat", "shuffle", "unshuffle", "average_pool", "max_pool"),
    *("resize", "instance_norm", "channel_gate", "spatial_gate"),
)
CURVES = ("prelu", "tanh", "sigmoid", "silu", "gelu")


def unavailable_reason() -> str | None:
    """Why the compiled kernels cannot be used, and what helps; None if they can."""
    if _cpu is None:
        return f"the module srfast._cpu is missing ({_error}); install a C++ compiler (gcc or clang) and srfast again"
    return None


def instruction_sets() -> list[str]:
    """Instruction sets that this build and this CPU both have, fastest first; empty without the module."""
    return list(_cpu.instruction_sets()) if _cpu is not None else []


def narrow_sets() -> list[str]:
    """Instruction sets with narrow convolutions that this build and this CPU both have, fastest of each type first.

    'amx' is bfloat16, 'amx_int8' and 'vnni' are int8; 'amx_emulated' and 'amx_int8_emulated' compute what AMX would, for tests.
    """
    return list(_cpu.narrow_sets()) if _cpu is not None else []


def narrow_fits(kernel: int, in_channels: int) -> bool:
    """Whether the narrow kernels cover such a convolution: multiples of 32 input channels, kernels that are not too large."""
    return _cpu is not None and bool(_cpu.narrow_fits(kernel, in_channels))


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
    second, last = _cpu.caches()
    return int(second), int(last)


@dataclass(frozen=True)
class Narrow:
    """A convolution in the narrow type of its instruction set. For int8: input x is stored as ``round(x / scale) + zero``.

    Attributes:
        scale: positive; not used for bfloat16.
        zero: 0..255, what stands for 0.0.
    """

    scale: float = 1.0
    zero: int = 0


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


def winograd_tile(kernel: int) -> int:
    """Rows and columns of results (before a shuffle) that one Winograd tile gives."""
    return 3 if kernel == 9 else 4


@dataclass(frozen=True)
class _Activation:
    channels: int
    input: bool
    output: bool


class Network:
    """Fused convolutions and other nodes over numbered activations, run in one call for one image size at a time.

    Args:
        instruction_set: one of ``instruction_sets()`` or ``narrow_sets()``; by default ``default_instruction_set()``.
    """

    def __init__(self, instruction_set: str | None = None) -> None:
        reason = unavailable_reason()
        if reason:
            raise RuntimeError(reason)
        self.instruction_set = instruction_set or default_instruction_set()
        self._program = _cpu.Program(self.instruction_set, caches()[0])
        self._activations: list[_Activation] = []
        self._scales: list[int] = []
        self._size = (0, 0)

    def activation(self, channels: int, *, input: bool = False, output: bool = False) -> int:  # noqa: A002
        """Adds an activation and returns its number. Inputs are loaded from tensors, outputs are written to tensors."""
        if channels < 1:
            raise ValueError(f"an activation has at least 1 channel, not {channels}")
        self._activations.append(_Activation(channels, input, output))
        return int(self._program.activation(channels, input, output))

    def conv(
        self,
        sources: int | Sequence[int],
        target: int,
        weight: Tensor,  # [O, C, k, k]
        bias: Tensor,  # [O]
        *,
        slope: Tensor | None = None,  # [1] or [O]
        shuffle: int = 1,
        gain: float = 1.0,
        residual: int | None = None,
        residual_factor: int = 1,
        clamp: tuple[float, float] | None = None,
        winograd: bool = False,
        narrow: Narrow | None = None,
    ) -> None:
        """Adds ``target = clamp(shuffle(prelu(conv(source) + bias)) * gain + residual)``; the tensors are copied.

        Args:
            sources, target, residual: numbers of activations; the channels of several sources are read in a row, which
                direct float32 convolutions cannot.
            residual_factor: the residual is enlarged by it, nearest neighbour.
            winograd: transformed rather than direct; see ``winograd_fits``.
            narrow: in the narrow type; see ``narrow_fits``.
        """
        out, channels, kernel, width = weight.shape
        inputs = [sources] if isinstance(sources, int) else list(sources)
        given = [self._activations[i].channels for i in inputs]
        if kernel != width or kernel % 2 == 0 or channels != sum(given) or bias.shape != (out,):
            raise ValueError(f"weight {list(weight.shape)} and bias {list(bias.shape)} on {sum(given)} channels")
        if out != self._activations[target].channels * shuffle**2:
            raise ValueError(
                f"{out} outputs shuffled by {shuffle} do not make {self._activations[target].channels} channels"
            )
        if slope is not None and slope.shape not in ((1,), (out,)):
            raise ValueError(f"a PReLU of {out} channels needs 1 or {out} slopes, not {list(slope.shape)}")
        if residual is not None and self._activations[residual].channels != self._activations[target].channels:
            raise ValueError(
                f"a residual of {self._activations[residual].channels} channels on {self._activations[target]}"
            )
        if winograd and not all(winograd_fits(kernel, c, out) for c in given):
            raise ValueError(f"no Winograd kernel for {kernel}x{kernel} on {given} channels")
        if narrow and (winograd or not narrow_fits(kernel, channels)):
            raise ValueError(f"no narrow kernel for {kernel}x{kernel} on {given} channels")
        if len(given) > 1 and not winograd and not narrow:
            raise ValueError(f"a direct convolution reads 1 activation, not {len(given)}")
        low, high = clamp or (float("-inf"), float("inf"))
        tensors = [
            t.detach().to("cpu", torch.float32).contiguous()
            for t in (weight, bias, torch.empty(0) if slope is None else slope)
        ]
        self._program.conv(
            inputs=inputs,
            output=target,
            residual=-1 if residual is None else residual,
            residual_factor=residual_factor,
            weight=tensors[0].data_ptr(),
            bias=tensors[1].data_ptr(),
            slope=tensors[2].data_ptr(),
            slopes=tensors[2].numel(),
            out_channels=out,
            kernel=kernel,
            shuffle=shuffle,
            gain=gain,
            low=low,
            high=high,
            algorithm=2 if narrow else int(winograd),
            input_inverse=1.0 / narrow.scale if narrow else 1.0,
            input_zero=narrow.zero if narrow else 0,
        )

    def node(
        self,
        sources: Sequence[int],
        target: int,
        operation: str,
        *,
        factor: int = 1,
        reach: int = 0,
        curve: str = "prelu",
        clamp: tuple[float, float] = (float("-inf"), float("inf")),
        eps: float = 0.0,
        inset: tuple[int, int] = (0, 0),
        tensors: Sequence[Tensor] = (),
    ) -> None:
        """Adds an operation other than a convolution; ``backends.cpu_nodes`` says what the operations take.

        Args:
            sources, target: numbers of activations.
            operation: one of ``OPERATIONS``.
            factor: of shuffles, pools and resizes.
            reach: rows and columns read beyond each pixel by a resize or a spatial gate.
            curve: of an activation, one of ``CURVES``.
            inset: rows and columns that a channel gate's means leave out, at the top and left, and at the others.
            tensors: weights, which are copied; the module checks their sizes.

        Raises:
            ValueError: the activations or tensors do not fit the operation.
        """
        copies = [t.detach().to("cpu", torch.float32).contiguous() for t in tensors]
        self._program.node(
            inputs=list(sources),
            output=target,
            operation=1 + OPERATIONS.index(operation),
            factor=factor,
            reach=reach,
            curve=CURVES.index(curve),
            low=clamp[0],
            high=clamp[1],
            eps=eps,
            inset=inset,
            tensors=[(t.data_ptr(), t.numel()) for t in copies],
        )

    def row_floats(self, activation: int, width: int) -> int:
        """Floats that one row of ``width`` pixels takes in memory, with the zeros beside it."""
        return int(self._program.row_floats(activation, width))

    def layout(self, height: int, width: int, *, scales: list[int], steps: list[tuple[int, int, int]]) -> None:
        """Fixes image size and order of execution.

        Args:
            height, width: pixels of activations of scale 1.
            scales: of every activation, pixels for each of those along one side.
            steps: (layer, first row, last row), or (-1 - i, ...) to load input i.

        Raises:
            ValueError: a step would read what is not in memory, or some rows are never written.
        """
        self._program.layout(height=height, width=width, scales=scales, steps=steps)
        self._scales, self._size = list(scales), (height, width)

    def working_bytes(self, height: int, width: int, *, scales: list[int], steps: list[tuple[int, int, int]]) -> int:
        """Bytes that the activations of such a layout take, for which rows share memory when they are not in use."""
        return int(self._program.working_bytes(height=height, width=width, scales=scales, steps=steps))

    def run(self, inputs: list[Tensor], outputs: list[Tensor], threads: int) -> bool:
        """Runs the network on one image; False if a value of an uint8 output was NaN or infinite.

        Args:
            inputs, outputs: [H * scale, W * scale, C] float32 or uint8, contiguous, on the CPU, in the order in which their
                activations were added. uint8 outputs are rounded and limited to 0..255.
            threads: at most; results do not depend on it.
        """
        sources = [i for i, a in enumerate(self._activations) if a.input]
        targets = [i for i, a in enumerate(self._activations) if a.output]
        given = [self._address(t, i) for t, i in zip(inputs, sources, strict=True)]
        wanted = [self._address(t, i) for t, i in zip(outputs, targets, strict=True)]
        return bool(self._program.run(inputs=given, outputs=wanted, threads=max(1, threads)))

    def seconds(self) -> tuple[list[float], float, float]:
        """Of the last run, on the thread that called it: seconds of every layer, of loading inputs, of waiting for threads."""
        *layers, loads, waits = self._program.seconds()
        return layers, loads, waits

    def _address(self, tensor: Tensor, activation: int) -> tuple[int, bool]:
        height, width = self._size
        scale = self._scales[activation]
        expected = (height * scale, width * scale, self._activations[activation].channels)
        if tensor.shape != expected or not tensor.is_contiguous() or tensor.device.type != "cpu":
            raise ValueError(
                f"activation {activation} is a contiguous {list(expected)} on the CPU, "
                f"not {list(tensor.shape)} with strides {list(tensor.stride())} on {tensor.device}"
            )
        if tensor.dtype not in (torch.float32, torch.uint8):
            raise ValueError(f"activations are float32 or uint8, not {tensor.dtype}")
        return tensor.data_ptr(), tensor.dtype == torch.uint8
