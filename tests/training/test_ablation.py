"""The ablation's arms start from one network and see the same batches."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from srfast.checkpoint import load_model
from srfast.training.ablation import ARMS, main


def test_every_arm_starts_from_the_same_network(tmp_path: Path) -> None:
    photographs, out = tmp_path / "photographs", tmp_path / "out"
    photographs.mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        cv2.imwrite(str(photographs / f"{index}.png"), rng.integers(0, 256, (48, 40, 3), dtype=np.uint8))
    sizes = ["channels=4", "growth=2", "blocks=1", "patch=8", "batch=2", "discriminator_channels=4", "log_every=1"]
    command = ["--data", str(photographs), "--out", str(out), "--start", "1", "--set", *sizes]
    assert main([*command, "--iterations", "1"]) == 0
    first = {name: json.loads((out / name / "log.jsonl").read_text()) for name in ARMS}
    assert len({record["generator/l1"] for record in first.values()}) == 1, (
        "before the first step all arms are the same"
    )
    assert {name for name, record in first.items() if "generator/fft" in record} == {"ragan_fft", "ragp_fft"}
    assert {name for name, record in first.items() if "discriminator/penalty" in record} == {"ragp", "ragp_fft"}
    assert main([*command, "--iterations", "2"]) == 0  # longer arms, the start as it was
    models = {name: load_model(out / name / "rrdb_x4.safetensors").module.state_dict() for name in ARMS}
    weights = [torch.cat([v.flatten() for v in state.values()]) for state in models.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])
    assert len((out / "ragp" / "log.jsonl").read_text().splitlines()) == 2
    assert main([*command, "--set", "blocks=nonsense"]) == 2
