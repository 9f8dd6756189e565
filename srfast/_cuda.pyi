"""Compiled CUDA kernels; use srfast.kernels.cuda, which checks what it passes. Built from ``csrc/cuda``."""

from collections.abc import Sequence
from typing import ClassVar

emulated: bool
architectures: str
toolkit: int

class DType:
    __members__: ClassVar[dict[str, DType]]
    float16: ClassVar[DType]
    bfloat16: ClassVar[DType]

class Act:
    __members__: ClassVar[dict[str, Act]]
    none: ClassVar[Act]
    prelu: ClassVar[Act]
    tanh: ClassVar[Act]
    sigmoid: ClassVar[Act]

class OutType:
    __members__: ClassVar[dict[str, OutType]]
    same: ClassVar[OutType]
    uint8: ClassVar[OutType]
    uint16: ClassVar[OutType]

class Window:
    __members__: ClassVar[dict[str, Window]]
    copied: ClassVar[Window]
    shifted: ClassVar[Window]
    held: ClassVar[Window]
    offset: ClassVar[Window]

class PairForm:
    __members__: ClassVar[dict[str, PairForm]]
    pair: ClassVar[PairForm]
    pair_wgmma: ClassVar[PairForm]

class TailForm:
    __members__: ClassVar[dict[str, TailForm]]
    tail: ClassVar[TailForm]
    tail_wide: ClassVar[TailForm]
    tail_wgmma: ClassVar[TailForm]

class FrameJob:
    __members__: ClassVar[dict[str, FrameJob]]
    packed_in: ClassVar[FrameJob]
    packed_out: ClassVar[FrameJob]
    yuv_in: ClassVar[FrameJob]
    yuv_out: ClassVar[FrameJob]

class View:
    def __init__(self, *, address: int, image_stride: int, row_stride: int, pixel_stride: int) -> None: ...

class Stream:
    def __init__(self, *, device: int, handle: int, programmatic: bool) -> None: ...

class Variant:
    def __init__(
        self, *, block_c: int, block_o: int, kernel: int, tile_h: int, tile_w: int, pixel_stride: int
    ) -> None: ...

class Epilogue:
    def __init__(
        self,
        *,
        bias: int,
        slope: int,
        residual: View | None,
        residual_factor: int,
        out: View,
        out_type: OutType,
        steps: float,
        flag: int,
        act: Act,
        channels: int,
        shuffle: int,
        gain: float,
        clamp: tuple[float, float] | None,
    ) -> None: ...

class ByteView:
    def __init__(self, *, view: View | None, scale: float, zero: int) -> None: ...

class ConvParams:
    def __init__(
        self,
        *,
        x: View,
        weight: int,
        epilogue: Epilogue,
        images: int,
        height: int,
        width: int,
        kernel: int,
        blocks_c: int,
        in_channels: int,
    ) -> None: ...

class TrunkLayer:
    def __init__(self, *, source: int, out: int, residual: int | None, prelu: bool, gain: float) -> None: ...

class FrameParams:
    def __init__(
        self,
        *,
        frame: View,
        chroma: View | None,
        image: View,
        wide: bool,
        shift: int,
        images: int,
        height: int,
        width: int,
        channels: int,
        swap: bool,
        matrix: Sequence[float],
        offset: Sequence[float],
        gain: float,
        peak: float,
        flag: int,
    ) -> None: ...

class ConvLaunch:
    def __init__(self, *, dtype: DType, variant: Variant, params: ConvParams) -> None: ...
    @staticmethod
    def shared_bytes(*, variant: Variant, kernel: int, blocks_c: int) -> int: ...
    def run(self, stream: Stream) -> int: ...

class HopperLaunch:
    def __init__(self, *, dtype: DType, window: Window, rows: int, blocks: int, params: ConvParams) -> None: ...
    def run(self, stream: Stream) -> int: ...

class Int8Launch:
    def __init__(
        self,
        *,
        dtype: DType,
        rows: int,
        blocks: int,
        conv: ConvParams,
        halves: bool,
        scale: int,
        start: int,
        zero: int,
        result: ByteView,
    ) -> None: ...
    def run(self, stream: Stream) -> int: ...

class QuantizeLaunch:
    def __init__(self, *, dtype: DType, x: View, result: ByteView, images: int, height: int, width: int) -> None: ...
    def run(self, stream: Stream) -> int: ...

class PairLaunch:
    def __init__(
        self,
        *,
        dtype: DType,
        form: PairForm,
        rows: int,
        blocks: int,
        second: ConvParams,
        first_weight: int,
        first_bias: int,
        first_slope: int,
    ) -> None: ...
    def run(self, stream: Stream) -> int: ...

class TrunkLaunch:
    def __init__(
        self,
        *,
        dtype: DType,
        rows: int,
        blocks: int,
        conv: ConvParams,
        images: Sequence[int],
        counters: int,
        layers: Sequence[TrunkLayer],
    ) -> None: ...
    @staticmethod
    def resident_blocks(*, dtype: DType, stream: Stream) -> int: ...
    def run(self, stream: Stream) -> int: ...

class TailLaunch:
    def __init__(
        self, *, dtype: DType, form: TailForm, rows: int, second: ConvParams, first_bias: int, first_slope: int
    ) -> None: ...
    @staticmethod
    def shared_bytes(*, form: TailForm, kernel: int, chunks: int) -> int: ...
    def run(self, stream: Stream) -> int: ...

class FrameLaunch:
    def __init__(self, *, dtype: DType, job: FrameJob, params: FrameParams) -> None: ...
    def run(self, stream: Stream) -> int: ...

def read_rate(*, data: int, size: int, rounds: int, sink: int, stream: Stream) -> int: ...
def matrix_rate(*, columns: int, held: bool, source: int, rounds: int, blocks: int, stream: Stream) -> int: ...
