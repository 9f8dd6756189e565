"""Blends two networks of one kind: ``python -m srfast.training.interpolate FAITHFUL PERCEPTUAL OUT --share 0.7``.

A perceptual network that was trained from a faithful one lies near it, so that every mean of their weights is a network as well,
with less of the artefacts at little loss of sharpness (network interpolation, Wang et al. 2018,
https://arxiv.org/abs/1809.00219, section 3.4).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from srfast.checkpoint import load_model, save_checkpoint
from srfast.errors import SrfastError


def interpolate(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """``(1 - share) * first + share * second`` of every floating-point tensor, formed in float64; others are the second's.

    Raises:
        ValueError: the share is not in 0..1, or the names or shapes differ.

    Examples:
        >>> a, b = {"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}
        >>> interpolate(a, b, 0.25)
        {'w': tensor([1.5000])}
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the second network is 0 to 1, not {share}")
    different = sorted(first.keys() ^ second.keys()) or [k for k in first if first[k].shape != second[k].shape]
    if different:
        raise ValueError(
            f"only networks of one kind and size can be blended; these differ in {', '.join(different[:4])}"
        )
    return {
        # In float64, so that a share of 0 or 1 gives a network back bit for bit.
        k: torch.lerp(first[k].double(), v.double(), share).to(v.dtype) if v.is_floating_point() else v
        for k, v in second.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.interpolate", description=__doc__)
    p.add_argument("faithful", help="a checkpoint file or a shipped model's name")
    p.add_argument("perceptual", help="another one of the same kind and size")
    p.add_argument("out", type=Path, help="the .safetensors file")
    p.add_argument("--share", type=float, default=0.7, help="of the perceptual network, 0..1; 0.7 by default")
    p.add_argument(
        "--half", action="store_true", help="store convolutions in float16, as the shipped networks are: half the size"
    )
    args = p.parse_args(arguments)
    try:
        first, second = (load_model(name) for name in (args.faithful, args.perceptual))
        model = second.module
        model.load_state_dict(interpolate(first.module.state_dict(), model.state_dict(), args.share))
        save_checkpoint(model, args.out, torch.float16 if args.half else torch.float32, second)
    except (SrfastError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: {100 * args.share:g}% {args.perceptual}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
