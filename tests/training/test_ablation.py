"""The arms of a question start from one network, see the same batches, and are measured on pictures that none has seen."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srfast.checkpoint import load_model, save_checkpoint
from srfast.models import SRVGGNetCompact
from srfast.training.ablation import QUESTIONS, main
from srfast.training.config import Config
from srfast.training.evaluate import evaluate
from srfast.training.presets import PRESETS

SIZES = ["channels=4", "blocks=1", "patch=12", "batch=2", "discriminator_channels=4", "log_every=1", "jitter=4"]
ARMS = {
    "content": {"none": set(), "vgg": {"vgg"}, "lpips": {"lpips"}, "dists": {"dists"}},
    "frequency": {"l1": set(), "fft": {"fft"}, "dct": {"dct"}, "spectral": {"spectral"}, "focal": {"focal"}},
}


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for folder, count in (("photographs", 2), ("others", 1)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            picture = cv2.resize(rng.integers(0, 256, (12, 14, 3), dtype=np.uint8), (96, 80))
            cv2.imwrite(str(tmp_path / folder / f"{index}.png"), picture)
    torch.manual_seed(0)
    save_checkpoint(SRVGGNetCompact(num_feat=4, num_conv=1, upscale=4), tmp_path / "start.safetensors")
    places = {"--data": "photographs", "--eval": "others", "--out": "out", "--init": "start.safetensors"}
    return [word for option, name in places.items() for word in (option, str(tmp_path / name))]


def logs(folder: Path) -> dict[str, list[dict[str, float]]]:
    return {p.parent.name: [json.loads(x) for x in p.read_text().splitlines()] for p in folder.glob("*/log.jsonl")}


@pytest.mark.parametrize("question", ["content", "frequency"])
def test_arms_differ_in_their_losses_alone(
    tmp_path: Path, command: list[str], question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / question
    settings = ["iterations=2", "discriminator_first=0"]
    more = ["--backbone", "random", "--seeds", "0", "1", "--set", *SIZES, *settings]
    assert main([question, *command, *more]) == 0
    found = logs(out)
    assert set(found) == {f"{arm}-{seed}" for arm in QUESTIONS[question].arms for seed in (0, 1)}
    for seed in (0, 1):
        first = {arm: found[f"{arm}-{seed}"][0] for arm in QUESTIONS[question].arms}
        assert len({record["generator/l1"] for record in first.values()}) == 1, "before the first step all are the same"
        terms = {
            arm: {k.removeprefix("generator/") for k in r if k.startswith("generator/")} for arm, r in first.items()
        }
        assert {arm: names - {"l1", "adversarial"} for arm, names in terms.items()} == ARMS[question]
    weights = [p.read_bytes() for p in sorted(out.glob("*/compact_x4.safetensors"))]
    assert len(set(weights)) == len(weights)

    scores = json.loads((out / "scores.json").read_text())["scores"]
    arm = next(iter(ARMS[question]))
    model = load_model(str(out / f"{arm}-1" / "compact_x4.safetensors")).module
    assert scores[arm][1]["PSNR-Y"] == pytest.approx(evaluate(model, tmp_path / "others", 4)["0"]["PSNR-Y"])
    said = capsys.readouterr().out.strip().splitlines()
    table = [line.split("|")[1].strip() for line in said if line.startswith("|")]
    assert table == ["arm", "---", "bicubic", "start", *QUESTIONS[question].arms]
    assert " ± " in said[-1]
    # Asked again, nothing is trained: the runs are there.
    assert main([question, *command, *more]) == 0
    assert logs(out) == found


def test_every_arm_is_a_configuration() -> None:
    for question in QUESTIONS.values():
        common = PRESETS[question.preset]
        configs = [common.changed(settings) for settings in question.arms.values()]
        assert all(isinstance(c, Config) for c in configs) and len(set(configs)) == len(configs)
        assert len(configs) >= 4


def test_a_wrong_setting_is_told(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["content", *command, "--set", "blocks=nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
