"""Compiled CPU kernels; use srfast.kernels.cpu, which checks what it passes. Built from ``csrc/cpu``."""

from collections.abc import Sequence
from typing import ClassVar

class _Enum:
    """An enumeration of the compiled module."""

    __members__: ClassVar[dict[str, _Enum]]
    @property
    def name(self) -> str: ...

class Algorithm(_Enum):
    __members__: ClassVar[dict[str, Algorithm]]  # type: ignore[assignment]
    direct: ClassVar[Algorithm]
    winograd: ClassVar[Algorithm]
    lowp: ClassVar[Algorithm]
    fourier: ClassVar[Algorithm]

class Operation(_Enum):
    __members__: ClassVar[dict[str, Operation]]  # type: ignore[assignment]
    affine: ClassVar[Operation]
    activate: ClassVar[Operation]
    clamp: ClassVar[Operation]
    add: ClassVar[Operation]
    multiply: ClassVar[Operation]
    concat: ClassVar[Operation]
    slice: ClassVar[Operation]
    shuffle: ClassVar[Operation]
    unshuffle: ClassVar[Operation]
    average_pool: ClassVar[Operation]
    max_pool: ClassVar[Operation]
    resize: ClassVar[Operation]
    pixel_norm: ClassVar[Operation]
    group_norm: ClassVar[Operation]
    channel_gate: ClassVar[Operation]
    spatial_gate: ClassVar[Operation]
    gated_sum: ClassVar[Operation]
    depthwise: ClassVar[Operation]

class Curve(_Enum):
    __members__: ClassVar[dict[str, Curve]]  # type: ignore[assignment]
    prelu: ClassVar[Curve]
    tanh: ClassVar[Curve]
    sigmoid: ClassVar[Curve]
    silu: ClassVar[Curve]
    gelu: ClassVar[Curve]
    mish: ClassVar[Curve]
    none: ClassVar[Curve]

class Element(_Enum):
    __members__: ClassVar[dict[str, Element]]  # type: ignore[assignment]
    float32: ClassVar[Element]
    uint8: ClassVar[Element]
    uint16: ClassVar[Element]

class Caches:
    @property
    def second(self) -> int: ...
    @property
    def last(self) -> int: ...

class FloatView:
    def __init__(self, *, address: int, count: int) -> None: ...

class Buffer:
    def __init__(self, *, address: int, element: Element, row: int, column: int, channel: int) -> None: ...

class Step:
    def __init__(self, layer: int, first: int, last: int) -> None: ...

class Size:
    def __init__(self, *, height: int, width: int, scales: Sequence[int]) -> None: ...

class Seconds:
    @property
    def layers(self) -> list[float]: ...
    @property
    def loads(self) -> float: ...
    @property
    def waits(self) -> float: ...

class ConvSpec:
    def __init__(
        self,
        *,
        inputs: Sequence[int],
        output: int,
        residual: int | None,
        residual_factor: int,
        weight: FloatView,
        bias: FloatView,
        curve: Curve,
        slope: FloatView,
        out_channels: int,
        kernel: int,
        shuffle: int,
        stride: int,
        offset: int,
        gain: float,
        low: float,
        high: float,
        algorithm: Algorithm,
        input_inverse: float,
        input_zero: int,
    ) -> None: ...

class NodeSpec:
    def __init__(
        self,
        *,
        inputs: Sequence[int],
        output: int,
        operation: Operation,
        factor: int,
        offset: int,
        reach: int,
        curve: Curve,
        low: float,
        high: float,
        eps: float,
        channels: tuple[int, int],
        groups: int,
        inset: tuple[int, int],
        centred: bool,
        contrast: bool,
        hard: bool,
        shift: float,
        tensors: Sequence[FloatView],
    ) -> None: ...

def instruction_sets() -> list[str]: ...
def lowp_sets() -> list[str]: ...
def lowp_fits(kernel: int, in_channels: int, stride: int) -> bool: ...
def caches() -> Caches: ...

class Program:
    def __init__(self, *, instruction_set: str, cache: int) -> None: ...
    def activation(self, channels: int, *, is_input: bool, is_output: bool) -> int: ...
    def conv(self, spec: ConvSpec) -> None: ...
    def node(self, spec: NodeSpec) -> None: ...
    def row_floats(self, activation: int, width: int) -> int: ...
    def layout(self, size: Size, steps: Sequence[Step]) -> None: ...
    def working_bytes(self, size: Size, steps: Sequence[Step]) -> int: ...
    def seconds(self) -> Seconds: ...
    def run(self, *, inputs: Sequence[Buffer], outputs: Sequence[Buffer], threads: int) -> bool: ...
