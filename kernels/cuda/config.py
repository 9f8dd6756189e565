"""Which CUDA kernel runs which convolution: ``configs/cuda.json``, and what ``SRFAST_CUDA_CONFIGS`` names.

``speedup`` is measured against the Triton kernel for the same shape; without an entry nothing has been measured, and ``auto``
leaves the shape to Triton. ``python -m benchmarks.gpu`` writes such a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srfast.kernels.configs import conv_key, find_entry, made, pair_key, tables, trunk_key

SHIPPED = Path(__file__).parents[1] / "configs" / "cuda.json"
VARIABLE = "SRFAST_CUDA_CONFIGS"
KERNELS = ("mma", "mma_large", "wgmma", "wgmma_shifted", "wgmma_held", "wgmma_offset")
# Of several convolutions in one launch: two of 64 channels, a network's last two, and a run of them.
PAIRS, TAILS, TRUNKS = ("pair", "pair_wgmma"), ("tail", "tail_wide", "tail_wgmma"), ("trunk_wgmma",)
_PAIR = pair_key(64, 3, 64, 3, 64)


@dataclass(frozen=True)
class CudaConfig:
    """How a convolution runs.

    Attributes:
        kernel: "mma" (tiles of 8 x 16), "mma_large" (16 x 16), "wgmma", "wgmma_shifted", "wgmma_offset" or "wgmma_held" (Hopper,
            see ``kernels.cuda.hopper``); of two convolutions in one launch "pair", "tail" or "tail_wide" (strips of 32
            columns), and "pair_wgmma" or "tail_wgmma" (Hopper); of a whole run of convolutions "trunk_wgmma" (Hopper).
        programmatic: launches begin before the kernel in front has ended (programmatic dependent launch, Hopper and later).
        speedup: as measured, 0 where nobody has: against the Triton kernel, of several convolutions against as many launches.
    """

    kernel: str = "mma"
    programmatic: bool = False
    speedup: float = 0.0

    def __post_init__(self) -> None:
        every = (*KERNELS, *PAIRS, *TAILS, *TRUNKS)
        if self.kernel not in every or self.speedup < 0:
            raise ValueError(f"{self}: the kernel is one of {', '.join(every)}, the speedup a ratio")


def find_config(names: tuple[str, ...], channels: int, out: int, kernel: int) -> CudaConfig:
    """The configuration of a convolution: by GPU, then by shape, then for all convolutions."""
    return _found(names, (conv_key(channels, out, kernel), "conv"), KERNELS) or CudaConfig()


def find_pair(
    names: tuple[str, ...], channels: int, kernel: int, middle: int, second: int, out: int
) -> CudaConfig | None:
    """The configuration of two convolutions in one launch; None where nobody has found that faster than two."""
    key = pair_key(channels, kernel, middle, second, out)
    return _faster(_found(names, (key,), PAIRS if key == _PAIR else TAILS))


def find_trunk(names: tuple[str, ...]) -> CudaConfig | None:
    """The configuration of a run of 3x3 convolutions of 64 channels in one launch; None where nobody has found that faster."""
    return _faster(_found(names, (trunk_key(64, 3),), TRUNKS))


def _found(names: tuple[str, ...], keys: tuple[str, ...], kernels: tuple[str, ...]) -> CudaConfig | None:
    """The configuration of the first key that a file has, one of ``kernels``, by default the first of these."""
    entry = find_entry(SHIPPED, VARIABLE, names, keys)
    if entry is None:
        return None
    config = made(CudaConfig, {"kernel": kernels[0], **entry})
    if config.kernel not in kernels:
        raise ValueError(f"{config.kernel!r} is no kernel of {keys[0]!r}; there are {', '.join(kernels)}")
    return config


def _faster(config: CudaConfig | None) -> CudaConfig | None:
    return config if config is not None and config.speedup > 1 else None


def measured_gpus() -> list[str]:
    """Names of the GPUs and families for which a file has speeds."""
    found = tables(SHIPPED, VARIABLE)
    return sorted(
        {name for table in found for name, keys in table.items() if any("speedup" in e for e in keys.values())}
    )
