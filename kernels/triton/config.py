"""Launch configurations of the Triton kernels: ``configs/triton.json``, and what ``SRFAST_TRITON_CONFIGS`` names.

Nothing is tuned while frames run; ``python -m srfast.kernels.tools.tune`` writes such a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srfast.kernels.configs import find_entry, made

SHIPPED = Path(__file__).parents[1] / "configs" / "triton.json"
VARIABLE = "SRFAST_TRITON_CONFIGS"


@dataclass(frozen=True)
class Config:
    """How a convolution is cut up.

    Attributes:
        tile_h, tile_w: pixels of a program's tile, powers of two.
        block_o: output channels of a program, a power of two of at least 16.
        warps: of 32 threads.
        stages: of the software pipeline over taps.
        swap: weights on the rows of the matrix product instead of pixels.
        gluon: ``gluon.conv`` where it fits the convolution; Hopper only.
        rows: of a Gluon program's strip; 0 takes those of full waves at the image's size.
    """

    tile_h: int = 8
    tile_w: int = 16
    block_o: int = 64
    warps: int = 4
    stages: int = 3
    swap: bool = False
    gluon: bool = False
    rows: int = 0

    def __post_init__(self) -> None:
        powers = (self.tile_h, self.tile_w, self.block_o, self.warps)
        if any(value < 1 or value & (value - 1) for value in powers) or self.block_o < 16 or self.stages < 1:
            raise ValueError(f"{self} needs powers of two, at least 16 output channels and a stage")
        if self.rows < 0:
            raise ValueError(f"{self} has a strip of fewer rows than none")
        if self.tile_h * self.tile_w < 16:
            raise ValueError(f"{self} has a tile of fewer than 16 pixels")

    @property
    def tile(self) -> tuple[int, int]:
        return self.tile_h, self.tile_w


@dataclass(frozen=True)
class PairConfig:
    """How two fused convolutions are cut up.

    Attributes:
        region_h, region_w: pixels of the result that a program makes at a time, powers of two.
        chunk: pixels of one matrix product, a power of two that divides the region.
        block_o, warps, stages, swap: as in ``Config``.
    """

    region_h: int = 16
    region_w: int = 32
    chunk: int = 64
    block_o: int = 64
    warps: int = 4
    stages: int = 3
    swap: bool = False

    def __post_init__(self) -> None:
        powers = (self.region_h, self.region_w, self.chunk, self.block_o, self.warps)
        if any(value < 1 or value & (value - 1) for value in powers) or min(self.block_o, self.chunk) < 16:
            raise ValueError(f"{self} needs powers of two, at least 16 output channels and pixels")
        if self.region_h * self.region_w % self.chunk or self.stages < 1:
            raise ValueError(f"{self} needs a region of whole chunks and a stage")

    def scratch_pixels(self, kernel: int) -> int:
        """Pixels of the middle that a region needs for the second kernel's side, in whole chunks."""
        around = kernel - 1
        return -(-(self.region_h + around) * (self.region_w + around) // self.chunk) * self.chunk


@dataclass(frozen=True)
class DepthwiseConfig:
    """How a depthwise convolution is cut up.

    Attributes:
        block: values, pixels times channels of a row, of a program; a power of two.
        warps: of 32 threads.
    """

    block: int = 512
    warps: int = 4

    def __post_init__(self) -> None:
        if any(value < 1 or value & (value - 1) for value in (self.block, self.warps)):
            raise ValueError(f"{self} needs powers of two")


def find_config(names: tuple[str, ...], key: str) -> Config:
    """The configuration for a convolution: by GPU, then by shape, then for all convolutions."""
    entry = find_entry(SHIPPED, VARIABLE, names, (key, "conv"))
    return Config() if entry is None else made(Config, entry)


def find_pair_config(names: tuple[str, ...], key: str) -> PairConfig | None:
    """The configuration for two convolutions in one launch; None where nobody has found that faster than two."""
    entry = find_entry(SHIPPED, VARIABLE, names, (key, "pair"))
    return None if entry is None else made(PairConfig, entry)


def find_depthwise_config(names: tuple[str, ...], kernel: int) -> DepthwiseConfig:
    """The configuration for a depthwise convolution: by GPU, then by its kernel's side, then for all of them."""
    entry = find_entry(SHIPPED, VARIABLE, names, (f"depthwise {kernel}x{kernel}", "depthwise"))
    return DepthwiseConfig() if entry is None else made(DepthwiseConfig, entry)
