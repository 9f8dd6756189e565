"""Trains a system from its preset: ``python -m srfast.training.train PRESET --data FOLDER --out RUN``.

A run resumes from its own folder. ``torchrun --nproc-per-node N -m srfast.training.train ...`` uses N GPUs. The checkpoint in
the folder is what ``srfast.load`` takes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from srfast.checkpoint import load_model
from srfast.devices import usable_device
from srfast.errors import SrfastError
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.training.board import Board
from srfast.training.config import Config
from srfast.training.data import PatchPairs, Source
from srfast.training.digits import Digits, DigitSystem, classifier_of, evaluate_digits
from srfast.training.evaluate import evaluate
from srfast.training.initialise import start_from_interpolation
from srfast.training.measures import IN_LOG, Files, choose_metrics, means
from srfast.training.presets import PRESETS
from srfast.training.reparameterise import unfold
from srfast.training.systems import GanSystem, System
from srfast.training.trainer import Trainer
from srfast.training.transfer import start_from
from srfast.training.ugan import UGANSystem

SYSTEMS: dict[str, type[System]] = {"psnr": System, "gan": GanSystem, "ugan": UGANSystem, "digits": DigitSystem}
PADDED_DIGIT = 32  # SR-UGAN halves its input twice


def open_source(config: Config, folders: list[Path]) -> Source:
    """Photographs, or digits where the one folder holds idx files; names what it leaves out."""
    if len(folders) == 1 and any(folders[0].glob("*images*idx*")):
        side = PADDED_DIGIT if config.generator == "ugan" else 28
        return Digits(folders[0], config.scale, config.colours, config.seed, side)
    pairs = PatchPairs(folders, config.scale, config.patch, config.seed, config.degradation)
    for reason in pairs.left_out:
        print(f"left out: {reason}", flush=True)
    print(f"{len(pairs.pairs)} photographs", flush=True)
    return pairs


def build(config: Config, source: Source, init: str | None, out: Path) -> System:
    """The system with its start: a checkpoint, near interpolation, or PyTorch's own; ``out`` keeps the digits' classifier."""
    # Before the networks are made: their first weights belong to the seed too.
    torch.manual_seed(config.seed)
    system = SYSTEMS[config.system](config, source.classes)
    if isinstance(system, DigitSystem):
        if not isinstance(source, Digits):
            raise ValueError(
                "the digits presets need a folder with MNIST's *images*idx* and *labels*idx* files as --data"
            )
        system.classifier = classifier_of(source, out / "classifier.pt")
    if init:
        start_from(system.generator, load_model(init).module, source)
    elif isinstance(system.generator, (SRResNet, SRVGGNetCompact)):
        start_from_interpolation(system.generator)
    if config.teacher:
        system.teacher = teacher_of(config)
    # After the start: a checkpoint holds plain convolutions, to which the branches are added.
    if config.expansion:
        unfold(system.generator, config.expansion)
    return system


def teacher_of(config: Config) -> nn.Module:
    """The trained network whose images a system learns as well.

    Raises:
        ValueError: it is of another scale.
    """
    loaded = load_model(config.teacher)
    if loaded.scale != config.scale:
        raise ValueError(
            f"the teacher {config.teacher} enlarges by {loaded.scale}, not {config.scale}; give one of that scale"
        )
    return loaded.module.eval().requires_grad_(False)


def scoring(
    system: System, source: Source, folder: Path | None, files: Files | None = None
) -> Callable[[nn.Module], dict[str, float]]:
    """What is measured at each save: PSNR and SSIM, and what the files make possible."""
    scale = system.config.scale
    metrics = {name: f for name, f in choose_metrics(files or Files(), scale).items() if name in IN_LOG}

    def score(model: nn.Module) -> dict[str, float]:
        if isinstance(source, Digits) and isinstance(system, DigitSystem) and system.classifier is not None:
            return evaluate_digits(model, system.classifier, source)
        if folder is None:
            return {}
        found = means(evaluate(model, folder, scale, metrics, system.config.degradation).values())
        return {IN_LOG[name]: value for name, value in found.items()}

    return score


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(arguments)
    if args.list:
        _list_presets()
        return 0
    try:
        config = PRESETS[args.preset].changed(args.set)
        device = usable_device(args.device)
        use_threads(args.threads)
        # Set by torchrun for each of its processes.
        if "RANK" in os.environ:
            dist.init_process_group("nccl" if args.device == "cuda" else "gloo")
            if args.device == "cuda":
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        source = open_source(config, args.data)
        system = build(config, source, args.init, args.out)
        size = sum(p.numel() for p in system.generator.parameters())
        board = Board(args.out, config.iterations, args.eval)
        trainer = Trainer(
            system,
            source,
            args.out,
            device,
            scoring(system, source, args.eval, Files.of(args)),
            board.show,
            args.best,
            args.keep_all,
        )
        print(f"{args.preset}: {size:,} parameters, from iteration {trainer.step} to {config.iterations}", flush=True)
        return 0 if trainer.run() else 130
    except (SrfastError, ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def use_threads(count: int) -> None:
    """CPU threads of PyTorch; 0 leaves its choice."""
    if count < 0:
        raise ValueError(f"--threads takes a number from 0, not {count}")
    if count:
        torch.set_num_threads(count)


def _list_presets() -> None:
    plain = Config()
    for name, config in PRESETS.items():
        changed: dict[str, Any] = {f.name: getattr(config, f.name) for f in fields(config)}
        said = ", ".join(f"{k}={v}" for k, v in changed.items() if v != getattr(plain, k))
        print(f"{name:26}{said}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.train", description=__doc__)
    p.add_argument("preset", nargs="?", choices=PRESETS, default="srresnet_x4", metavar="PRESET")
    p.add_argument("--list", action="store_true", help="show the presets and end")
    p.add_argument(
        "--data", type=Path, nargs="+", default=[], help="folders of photographs, one label each, or of digits"
    )
    p.add_argument("--out", type=Path, default=Path("run"), help="folder of the run; resumes if it holds a state")
    p.add_argument("--eval", type=Path, help="folder of HR images, no test set, to measure on at each save")
    p.add_argument(
        "--best", choices=tuple(IN_LOG.values()), default="psnr", help="keep best.safetensors by this measure on --eval"
    )
    p.add_argument(
        "--keep-all", action="store_true", help="keep the network of every save, not only the last and the best"
    )
    p.add_argument("--init", help="checkpoint or shipped model to start from, of this or a larger scale")
    p.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change settings of the preset")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves PyTorch's choice")
    Files.add_to(p)
    return p


if __name__ == "__main__":
    sys.exit(main())
