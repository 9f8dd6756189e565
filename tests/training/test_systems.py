"""Parts of a network that stay, and what the discriminator gets to see."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srfast.checkpoint import save_checkpoint
from srfast.models import SRResNet
from srfast.training.config import Config
from srfast.training.data import Batch
from srfast.training.presets import PRESETS
from srfast.training.states import load_state, save_state
from srfast.training.systems import GanSystem, random_windows
from srfast.training.train import build, teacher_of
from srfast.training.trainer import Trainer

GAN = replace(
    PRESETS["srgan_x4"],
    content="none",
    channels=8,
    blocks=2,
    patch=8,
    batch=2,
    adversarial_weight=0.1,
    discriminator_channels=4,
)


class Noise:
    """Random pairs."""

    classes = 1

    def batch(self, size: int, step: int, rank: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(step)
        lr, hr = (torch.rand(size, 3, side, side, generator=generator) for side in (8, 32))
        return Batch(lr, hr, torch.zeros(size, dtype=torch.long))


def test_frozen_blocks_stay(tmp_path: Path) -> None:
    """Batch normalisation keeps its statistics there too, with freeze_norm=0."""
    config = replace(GAN, frozen_blocks=1, freeze_norm=0.0)
    run = Trainer(GanSystem(config), Noise(), tmp_path, torch.device("cpu"))
    before = {k: v.clone() for k, v in run.system.generator.state_dict().items()}
    run.advance()
    after = run.system.generator.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert not any(k.startswith(("conv1.", "trunk.0.")) for k in moved)
    assert {"trunk.1.rcb.0.weight", "conv2.0.weight", "conv3.weight"} <= moved


def test_frozen_blocks_keep_their_statistics(tmp_path: Path) -> None:
    """Those of the blocks behind them move."""
    run = Trainer(GanSystem(replace(GAN, frozen_blocks=1)), Noise(), tmp_path, torch.device("cpu"))
    before = {k: v.clone() for k, v in run.system.generator.state_dict().items()}
    run.advance()
    after = run.system.generator.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert not any(k.startswith(("conv1.", "trunk.0.")) for k in moved)
    assert {"trunk.1.rcb.1.running_mean", "conv2.1.running_var"} <= moved


def test_a_longer_run_keeps_frozen_batch_normalisation(tmp_path: Path) -> None:
    """Also where the state is older than the entry that says so; what was not frozen yet is frozen later."""

    def run(iterations: int) -> Trainer:
        config = replace(GAN, freeze_norm=0.5, iterations=iterations)
        return Trainer(GanSystem(config), Noise(), tmp_path, torch.device("cpu"))

    def statistics(trainer: Trainer) -> list[torch.Tensor]:
        return [v.clone() for k, v in trainer.system.generator.state_dict().items() if "running" in k]

    first = run(4)
    for step in range(3):
        first.advance()
        if step == 1:
            first.save()
    assert run(8).freeze_from == 4
    first.save()
    state = load_state(first.state_path)
    save_state({k: v for k, v in state.items() if k != "freeze_from"}, first.state_path)
    for iterations in (8, 16):
        longer = run(iterations)
        before = statistics(longer)
        longer.advance()
        assert all(torch.equal(a, b) for a, b in zip(before, statistics(longer), strict=True))
        longer.save()


def test_the_discriminator_may_begin_alone(tmp_path: Path) -> None:
    run = Trainer(
        GanSystem(replace(GAN, discriminator_first=1, freeze_norm=0.0)), Noise(), tmp_path, torch.device("cpu")
    )
    changed = []
    for _ in range(2):
        before = {k: v.clone() for k, v in run.system.state_dict().items()}
        run.advance()
        moved = {k.split(".")[0] for k, v in run.system.state_dict().items() if not torch.equal(v, before[k])}
        changed.append(moved & {"generator", "discriminator"})
    assert changed == [{"discriminator"}, {"generator", "discriminator"}]
    with pytest.raises(ValueError, match="discriminator_first"):
        replace(GAN, discriminator_first=-1)


def test_the_discriminator_sees_windows_anywhere(tmp_path: Path) -> None:
    image = torch.arange(2 * 36.0).view(2, 1, 6, 6)
    seen = {tuple(random_windows(image, 4)[:, 0, 0, 0].tolist()) for _ in range(1500)}
    corners = [r * 6.0 + c for r in range(3) for c in range(3)]
    assert seen == {(a, 36 + b) for a in corners for b in corners}
    assert torch.equal(random_windows(image, 6), image)
    run = Trainer(GanSystem(replace(GAN, jitter=4)), Noise(), tmp_path, torch.device("cpu"))
    assert all(math.isfinite(v) for v in run.advance().values())


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="frozen_blocks counts residual blocks"):
        replace(PRESETS["compact_x4"], frozen_blocks=1)
    with pytest.raises(ValueError, match="frozen_blocks is 0 to 2, not 3"):
        replace(GAN, frozen_blocks=3)
    with pytest.raises(ValueError, match="jitter is 0 to 31, not 32"):
        replace(GAN, jitter=32)


def test_a_teacher_is_learned_from(tmp_path: Path) -> None:
    """Its images count beside the true ones, and it stays as it is, batch statistics included."""
    torch.manual_seed(0)
    teacher = SRResNet(2, 3, 3, 8, 1)
    save_checkpoint(teacher, tmp_path / "teacher.safetensors")
    config = Config(generator="compact", scale=2, channels=8, blocks=1, patch=8, pixel="l1", teacher_weight=0.5)
    config = replace(config, teacher=str(tmp_path / "teacher.safetensors"))
    system = build(config, Noise(), None, tmp_path).train()
    batch = Batch(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16), torch.zeros(2))
    before = {k: v.clone() for k, v in system.teacher.state_dict().items()}
    terms = system.generator_terms(batch, fake := system.upscale(batch.lr))
    with torch.no_grad():
        taught = teacher.eval()(batch.lr)
    assert torch.allclose(terms["teacher"], 0.5 * (fake - taught).abs().mean(), atol=1e-5)
    assert torch.allclose(terms["l1"], (fake - batch.hr).abs().mean())
    sum(terms.values()).backward()
    assert all(p.grad is None for p in system.teacher.parameters())
    assert all(torch.equal(before[k], v) for k, v in system.teacher.state_dict().items())
    assert "teacher" not in system.trained()
    with pytest.raises(ValueError, match="enlarges by 2, not 4; give one of that scale"):
        teacher_of(replace(config, scale=4))
