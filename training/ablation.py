"""What a loss brings: ``python -m srfast.training.ablation QUESTION --data PHOTOS --out FOLDER --eval PICTURES``.

All arms of a question go on from one trained network, with the same batches for a seed, and differ in their losses alone. Each
is measured on pictures that are no training data; a table shows the means over the seeds. Networks lie in
``FOLDER/QUESTION/ARM-SEED``, all numbers in ``FOLDER/QUESTION/scores.json``. A run that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from srfast.checkpoint import load_model
from srfast.errors import SrfastError
from srfast.training.adversarial import KINDS
from srfast.training.board import Board
from srfast.training.config import Config
from srfast.training.data import Source
from srfast.training.evaluate import evaluate, frechet_of
from srfast.training.measures import FRECHET, Files, choose_metrics, means, shown
from srfast.training.presets import PRESETS
from srfast.training.train import build, open_source, use_threads
from srfast.training.trainer import Trainer

Scores = dict[str, float]


@dataclass(frozen=True)
class Question:
    """One setting that differs.

    Attributes:
        preset: what the arms have in common.
        arms: name and settings of each.
    """

    preset: str
    arms: Mapping[str, list[str]]


# Frequency losses have other sizes than L1. With these weights each one's gradient is 0.3 times as long as that of L1, where
# compact_x4 begins.
_FREQUENCY = {"fft": "6e-4", "dct": "1.5e-4", "spectral": "3e3", "focal": "12"}
_FFT = ["frequency=fft", "frequency_weight=6e-4"]
QUESTIONS: dict[str, Question] = {
    "content": Question(
        "ablation_gan_x4",
        {
            "none": ["content=none"],
            "vgg": ["content=vgg", "phi=(5,3)"],
            "lpips": ["content=lpips"],
            "dists": ["content=dists"],
        },
    ),
    "adversarial": Question(
        "ablation_gan_x4", {"l1": ["adversarial_weight=0.0"], **{kind: [f"adversarial={kind}"] for kind in KINDS}}
    ),
    "frequency": Question(
        "ablation_psnr_x4",
        {"l1": [], **{k: [f"frequency={k}", f"frequency_weight={w}"] for k, w in _FREQUENCY.items()}},
    ),
    # ESRGAN with a gradient penalty and a loss in the frequency domain.
    "esrgan": Question(
        "ablation_gan_x4",
        {
            "ragan": [],
            "ragp": ["adversarial=ragp"],
            "ragan_fft": _FFT,
            "ragp_fft": ["adversarial=ragp", *_FFT],
        },
    ),
}


def train_one(config: Config, source: Source, out: Path, init: str) -> nn.Module:
    """Trains to the configured length, from where the folder's state is; returns the averaged network.

    Raises:
        KeyboardInterrupt: it was stopped; its state is saved.
    """
    system = build(config, source, init, out)
    trainer = Trainer(system, source, out, torch.device("cpu"), report=Board(out, config.iterations, None).show)
    print(f"{out.name}: iteration {trainer.step} to {config.iterations}", flush=True)
    if not trainer.run():
        raise KeyboardInterrupt
    return load_model(str(trainer.checkpoint_path)).module


def measure(model: nn.Module | None, folder: Path, scale: int, files: Files) -> Scores:
    """The mean of every measure over a folder; None is bicubic interpolation."""
    found = means(evaluate(model, folder, scale, choose_metrics(files, scale)).values())
    if files.vgg16:
        found[FRECHET] = frechet_of(model, folder, scale, files.vgg16)
    return found


def as_table(scores: Mapping[str, Iterable[Scores]]) -> str:
    """A Markdown table: a line for each arm, means over its seeds, and how far they lie from the mean at most.

    Examples:
        >>> print(as_table({"a": [{"PSNR-Y": 30.0}, {"PSNR-Y": 31.0}]}))
        | arm | PSNR-Y |
        |---|---|
        | a | 30.50 ± 0.50 |
    """
    rows = {arm: list(runs) for arm, runs in scores.items()}
    names = list(next(iter(rows.values()))[0])
    lines = [f"| arm | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for arm, runs in rows.items():
        lines.append(f"| {arm} | {' | '.join(_cell(name, [run[name] for run in runs]) for name in names)} |")
    return "\n".join(lines)


def _cell(name: str, values: list[float]) -> str:
    mean = sum(values) / len(values)
    spread = max(abs(value - mean) for value in values)
    return shown(name, mean) + (f" ± {shown(name, spread)}" if len(values) > 1 else "")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(arguments)
    question = QUESTIONS[args.question]
    folder = args.out / args.question
    try:
        use_threads(args.threads)
        files = Files.of(args)
        common = PRESETS[question.preset].changed(args.set)
        if args.backbone and common.content != "none":
            common = replace(common, backbone=str(args.backbone))
        start = load_model(args.init)
        sources = {seed: open_source(replace(common, seed=seed), args.data) for seed in args.seeds}
        folder.mkdir(parents=True, exist_ok=True)
        scores = {
            name: [measure(model, args.eval, start.scale, files)]
            for name, model in (("bicubic", None), ("start", start.module))
        }
        for seed, source in sources.items():
            for arm, settings in question.arms.items():
                config = replace(common.changed(settings), seed=seed)
                model = train_one(config, source, folder / f"{arm}-{seed}", args.init)
                scores.setdefault(arm, []).append(measure(model, args.eval, start.scale, files))
                _write(folder / "scores.json", args.question, common, scores)
    except (SrfastError, ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(as_table(scores))
    return 0


def _write(path: Path, question: str, common: Config, scores: Mapping[str, list[Scores]]) -> None:
    record = {"question": question, "iterations": common.iterations, "batch": common.batch, "scores": scores}
    path.write_text(json.dumps(record, indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.ablation", description=__doc__)
    p.add_argument("question", choices=QUESTIONS, metavar="QUESTION", help=", ".join(QUESTIONS))
    p.add_argument("--data", type=Path, nargs="+", required=True, help="folders of photographs")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--eval", type=Path, required=True, help="folder of HR pictures, none of them training data")
    p.add_argument("--init", default="compact_x4", help="where all arms begin (default: compact_x4)")
    p.add_argument("--backbone", type=Path, help="weights of VGG16 for the content loss")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run of every arm for each (default: 0)")
    p.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change settings of all arms")
    p.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves PyTorch's choice")
    Files.add_to(p)
    return p


if __name__ == "__main__":
    sys.exit(main())
