"""What the adversarial and the frequency loss of ESRGAN bring: ``python -m srfast.training.ablation --data PHOTOS --out FOLDER``.

One generator is trained by L1. From it every arm goes on with the same batches and seed, and differs in its losses alone; "l1"
goes on by L1. The arms' checkpoints lie in ``FOLDER/ARM`` for ``compare`` and ``curves``. A run that was cut off goes on where it
was; with more iterations the arms get longer.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from srfast.errors import SrfastError
from srfast.training.board import Board
from srfast.training.config import Config
from srfast.training.data import Source
from srfast.training.presets import PRESETS
from srfast.training.train import build, open_source, use_threads
from srfast.training.trainer import Trainer

ARMS: dict[str, list[str]] = {
    "l1": ["adversarial_weight=0.0"],
    "ragan": [],
    "ragp": ["adversarial=ragp"],
    "ragan_fft": ["frequency=fft", "frequency_weight=1e-2"],
    "ragp_fft": ["adversarial=ragp", "frequency=fft", "frequency_weight=1e-2"],
}


def train_one(config: Config, source: Source, out: Path, init: Path | None = None) -> Path:
    """Trains to the configured length, from where the folder's state is; returns the checkpoint.

    Raises:
        KeyboardInterrupt: it was stopped; its state is saved.
    """
    system = build(config, source, str(init) if init else None, out)
    trainer = Trainer(system, source, out, torch.device("cpu"), report=Board(out, config.iterations, None).show)
    print(f"{out.name}: iteration {trainer.step} to {config.iterations}", flush=True)
    if not trainer.run():
        raise KeyboardInterrupt
    return trainer.checkpoint_path


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.ablation", description=__doc__)
    p.add_argument("--data", type=Path, nargs="+", required=True, help="folders of photographs")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--start", type=int, default=PRESETS["rrdb_small_x4"].iterations, help="iterations by L1 alone")
    p.add_argument("--iterations", type=int, default=PRESETS["esrgan_small_x4"].iterations, help="of each arm")
    p.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change settings of start and arms")
    p.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves PyTorch's choice")
    args = p.parse_args(arguments)
    try:
        use_threads(args.threads)
        start = replace(PRESETS["rrdb_small_x4"].changed(args.set), iterations=args.start)
        arm = replace(PRESETS["esrgan_small_x4"].changed(args.set), iterations=args.iterations)
        source = open_source(start, args.data)
        checkpoint = train_one(start, source, args.out / "start")
        for name, settings in ARMS.items():
            train_one(arm.changed(settings), source, args.out / name, checkpoint)
    except (SrfastError, ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
