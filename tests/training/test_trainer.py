"""Every preset trains on small networks; runs resume exactly, stop politely and lose no finished state."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srfast.checkpoint import load_model
from srfast.errors import CheckpointError, OutputError
from srfast.training import states
from srfast.training.config import Config
from srfast.training.data import PatchPairs, read_rgb
from srfast.training.degradation import gaussian
from srfast.training.digits import Digits, DigitSystem, classifier_of, evaluate_digits, read_idx
from srfast.training.discriminators import DigitClassifier
from srfast.training.frechet import Features
from srfast.training.presets import PRESETS
from srfast.training.systems import GanSystem, System
from srfast.training.train import SYSTEMS, build, open_source
from srfast.training.trainer import Trainer, learning_rate
from srfast.training.ugan import frechet_against_interpolation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for index in range(2):
        coarse = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(coarse, (100, 120), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="module")
def digit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,100 random digits in MNIST's format."""
    folder = tmp_path_factory.mktemp("digits")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2100, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 2100, dtype=np.uint8)
    (folder / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, *images.shape) + images.tobytes())
    (folder / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 2100) + labels.tobytes())
    return folder


def small(config: Config, **changes: object) -> Config:
    """The preset with a small network, and random VGG features shallow enough for small patches."""
    content = {} if config.content == "none" else {"backbone": "random", "phi": (1, 1)}
    sizes = {
        "patch": 8,
        "batch": 2,
        "channels": 8,
        "blocks": 1,
        "growth": 4,
        "discriminator_channels": 4,
        "frozen_blocks": 0,
        "discriminator_first": min(config.discriminator_first, 1),
    }
    return replace(config, **{**sizes, "iterations": 4, "save_every": 2, "log_every": 1, **content, **changes})


def gan(**changes: object) -> Config:
    return small(PRESETS["srgan_x4"], content="none", adversarial_weight=0.1, clip=0.5, **changes)


def trainer(config: Config, photographs: Path, out: Path) -> Trainer:
    torch.manual_seed(1)
    return Trainer(SYSTEMS[config.system](config), PatchPairs([photographs], config.scale, config.patch), out, CPU)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains(name: str, photographs: Path, digit_folder: Path, tmp_path: Path) -> None:
    """Two iterations: finite losses, both networks move, the checkpoint upscales."""
    config = small(PRESETS[name], iterations=2)
    source = open_source(config, [digit_folder if config.system == "digits" else photographs])
    torch.manual_seed(0)
    system = SYSTEMS[config.system](config, source.classes)
    if isinstance(system, DigitSystem):
        system.classifier = DigitClassifier().requires_grad_(False).eval()
    before = {k: v.clone() for k, v in system.state_dict().items()}
    assert Trainer(system, source, tmp_path, CPU).run()
    after = system.state_dict()
    for network in system.trained():
        assert any(not torch.equal(before[k], after[k]) for k in after if k.startswith(network)), network
    assert not any(k.startswith("content.") and not torch.equal(before[k], after[k]) for k in after)
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert record["step"] == 2
    assert load_model(tmp_path / f"{config.generator}_x{config.scale}.safetensors").scale == config.scale


def test_loss_falls(photographs: Path, tmp_path: Path) -> None:
    config = small(PRESETS["compact_x2"], iterations=60, log_every=20, save_every=60, lr=2e-3)
    assert trainer(config, photographs, tmp_path).run()
    losses = [json.loads(line)["generator/l1"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize("changes", [{}, {"adversarial": "ragp", "discriminator_norm": "none"}])
def test_resume_is_exact(changes: dict[str, object], photographs: Path, tmp_path: Path) -> None:
    """Interrupted after two of four iterations, every loss and weight is that of the run without a stop."""
    config = gan(**changes)
    whole = trainer(config, photographs, tmp_path / "whole")
    expected = [whole.advance() for _ in range(4)]
    first = trainer(config, photographs, tmp_path / "part")
    found = [first.advance() for _ in range(2)]
    first.save()
    second = trainer(config, photographs, tmp_path / "part")
    assert second.step == 2
    found += [second.advance() for _ in range(2)]
    assert found == expected
    for a, b in zip(whole.system.state_dict().values(), second.system.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.average.module.parameters(), second.average.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_of_another_training_is_refused(photographs: Path, tmp_path: Path) -> None:
    trainer(gan(), photographs, tmp_path).save()
    with pytest.raises(CheckpointError, match=r"lr was 0\.0001 and is now 0\.5"):
        trainer(replace(gan(), lr=0.5), photographs, tmp_path)
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(CheckpointError, match="not the state of a training"):
        trainer(gan(), photographs, tmp_path)
    torch.save({"weights": torch.zeros(2)}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="give an empty folder"):
        trainer(gan(), photographs, tmp_path)


def test_a_state_from_before_a_setting_resumes(photographs: Path, tmp_path: Path) -> None:
    first = trainer(gan(), photographs, tmp_path)
    first.advance()
    first.save()
    state = states.load_state(tmp_path / "state.pt")
    known = {k: v for k, v in json.loads(state["config"]).items() if k != "jitter"}
    states.save_state({**state, "config": json.dumps(known)}, tmp_path / "state.pt")
    assert trainer(gan(), photographs, tmp_path).step == 1
    with pytest.raises(CheckpointError, match="jitter was 0 and is now 2"):
        trainer(gan(jitter=2), photographs, tmp_path)


def test_a_full_disk_keeps_the_state(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(gan(), photographs, tmp_path)
    run.advance()
    run.save()
    kept = run.state_path.read_bytes()
    run.advance()

    def full(_: object, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(states.torch, "save", full)
    with pytest.raises(OutputError, match="No space left on device; the state before it is kept"):
        run.save()
    assert run.state_path.read_bytes() == kept
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_ctrl_c_saves_and_ends(photographs: Path, tmp_path: Path) -> None:
    """The signal comes in the middle of an iteration; the run ends after it, with its state."""
    config = gan(iterations=50, save_every=50)
    run = trainer(config, photographs, tmp_path)
    batch: Callable[..., object] = run.source.batch

    def interrupt(size: int, step: int, rank: int = 0) -> object:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(size, step, rank)

    run.source.batch = interrupt  # type: ignore[assignment, method-assign]
    assert not run.run()
    assert states.load_state(run.state_path)["step"] == 4
    assert load_model(run.checkpoint_path).scale == 4


def test_a_diverging_run_stops_before_it_saves(photographs: Path, tmp_path: Path) -> None:
    run = trainer(gan(), photographs, tmp_path)
    with torch.no_grad():
        run.system.generator.conv3.bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match="lower lr"):
        run.run()
    assert not run.state_path.exists()


def test_half_precision_trains(photographs: Path, tmp_path: Path) -> None:
    losses = trainer(gan(amp="bf16"), photographs, tmp_path).advance()
    assert all(np.isfinite(v) for v in losses.values())


def test_schedules() -> None:
    steps = Config(schedule="steps", milestones=(10, 20), gamma=0.5)
    assert [learning_rate(steps, s, 1.0) for s in (0, 9, 10, 20)] == [1, 1, 0.5, 0.25]
    cosine = Config(schedule="cosine", iterations=100)
    assert learning_rate(cosine, 0, 1.0) == pytest.approx(0.5)
    assert learning_rate(cosine, 51, 1.0) == pytest.approx(0.505)
    assert learning_rate(cosine, 100, 1.0) == pytest.approx(0.01)


def test_a_cosine_that_starts_again() -> None:
    """Each period is a run of its own, however long the whole is."""
    alone, again = Config(schedule="cosine", iterations=50), Config(schedule="cosine", iterations=175, period=50)
    expected = [learning_rate(alone, s, 2.0) for s in range(50)]
    assert [learning_rate(again, s, 2.0) for s in range(175)] == (4 * expected)[:175]
    assert expected[49] < 0.05 < expected[1]


def test_a_run_with_a_period_can_be_made_longer(photographs: Path, tmp_path: Path) -> None:
    first = trainer(gan(schedule="cosine", period=2), photographs, tmp_path)
    first.advance()
    first.save()
    assert trainer(gan(schedule="cosine", period=2, iterations=9), photographs, tmp_path).step == 1
    with pytest.raises(CheckpointError, match="period was 2 and is now 3"):
        trainer(gan(schedule="cosine", period=3), photographs, tmp_path)


def test_the_average_by_hand(photographs: Path, tmp_path: Path) -> None:
    """decay * average + (1 - decay) * weights after every iteration, with less decay in the first ones; float32 on the CPU."""
    run = trainer(gan(ema=0.75), photographs, tmp_path)
    expected = {k: v.clone() for k, v in run.system.generator.state_dict().items()}
    for step in range(12):
        run.advance()
        decay = min(0.75, (1 + step) / (10 + step))
        for name, value in run.system.generator.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    for name, value in run.average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name].to(value.dtype), rtol=1e-4, atol=1e-6)
    assert not torch.equal(expected["conv3.weight"], run.system.generator.state_dict()["conv3.weight"])


def test_the_best_by_validation_is_kept(photographs: Path, tmp_path: Path) -> None:
    """Of LPIPS 0.3, 0.2, not a number and 0.25 it is that of the second save, also after a resume."""
    values = iter([0.3, 0.2, math.nan, 0.25])
    kept: list[torch.Tensor] = []

    def score(model: torch.nn.Module) -> dict[str, float]:
        kept.append(model.state_dict()["conv3.weight"].clone())
        return {"lpips": next(values)}

    def run() -> Trainer:
        torch.manual_seed(1)
        config = gan(iterations=8, save_every=2)
        return Trainer(
            GanSystem(config), PatchPairs([photographs], 4, 8), tmp_path, CPU, score, judge_by="lpips", keep_all=True
        )

    first = run()
    for _ in range(2):
        first.advance()
        first.advance()
        first.scores()
    first.save()
    assert run().best == 0.2
    assert run().run()
    assert torch.equal(load_model(tmp_path / "best.safetensors").module.state_dict()["conv3.weight"], kept[1])
    assert len(list(tmp_path.glob("srresnet_x4_00000*.safetensors"))) == 4


def test_the_log_tells_speed_and_what_data_cost(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which the data takes 1 second and the rest of an iteration 3."""
    clock = [0.0]
    monkeypatch.setattr("srfast.training.trainer.time.perf_counter", lambda: clock[0])
    run = trainer(gan(iterations=4, log_every=2, save_every=4), photographs, tmp_path)
    batch: Callable[..., object] = run.source.batch
    update = run.average.update

    def slow_batch(size: int, step: int, rank: int = 0) -> object:
        clock[0] += 1
        return batch(size, step, rank)

    def slow_update(model: torch.nn.Module, step: int) -> None:
        clock[0] += 3
        update(model, step)

    monkeypatch.setattr(run.source, "batch", slow_batch)
    monkeypatch.setattr(run.average, "update", slow_update)
    assert run.run()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(r["step"], r["it/s"], r["share of time in data"]) for r in records] == [(2, 0.25, 0.25), (4, 0.25, 0.25)]


def test_a_discriminator_that_begins_alone(photographs: Path, tmp_path: Path) -> None:
    """The generator's losses are neither computed nor shown, and its weights stay, until its turn comes."""
    run = trainer(gan(discriminator_first=1), photographs, tmp_path)
    before = run.system.generator.conv3.weight.clone()  # type: ignore[union-attr,operator]
    assert set(run.advance()) == {"discriminator/real or not"}
    assert torch.equal(run.system.generator.conv3.weight, before)  # type: ignore[arg-type]
    assert "generator/adversarial" in run.advance()
    assert not torch.equal(run.system.generator.conv3.weight, before)  # type: ignore[arg-type]


def test_settings_are_read_and_checked() -> None:
    config = PRESETS["esrgan_x4"].changed(["milestones=(5,9)", "lr=3e-4", "content=none", "clip=1", "backbone="])
    assert (config.milestones, config.lr, config.content, config.clip) == ((5, 9), 3e-4, "none", 1.0)
    assert asdict(PRESETS["srgan_x4"])["content_weight"] == 1.0
    assert config.changed(["iterations=1e3"]).iterations == 1000
    for bad, message in (
        ("lr=fast", "lr takes"),
        ("blocks=1.5", "blocks takes a value like int"),
        ("iterations=1e999", "iterations takes"),
        ("speed=1", "no setting"),
        ("content=ssim", "content is one of"),
        ("expansion=2", "expansion is for the generator compact, not 'rrdb'"),
        ("period=-1", "period and expansion are 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            config.changed([bad])
    with pytest.raises(ValueError, match="needs a backbone"):
        Config(content="vgg")


def test_a_folder_of_odd_images(tmp_path: Path) -> None:
    """Trains on gray, alpha, 16-bit and single-channel TIFF; names what is cut off, empty, tiny or no image."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "gray.png"), image[..., 0])
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([image, image[..., :1]]))
    cv2.imwrite(str(tmp_path / "deep.png"), image.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "gray.tif"), image[..., 0])
    cv2.imwrite(str(tmp_path / "tiny.png"), image[:5, :5])
    cv2.imwrite(str(tmp_path / "whole.jpg"), image)
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.png").write_bytes((tmp_path / "alpha.png").read_bytes()[:-2000])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.bmp").write_text("not an image")
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    pairs = PatchPairs([tmp_path], scale=4, patch=8)
    assert len(pairs.pairs) == 5
    said = "\n".join(pairs.left_out)
    for name in (
        "tiny.png is too small: 4x4",
        "cut.jpg is cut off",
        "cut.png is cut off",
        "empty.png",
        "text.bmp",
        "gone.png",
    ):
        assert name in said
    assert len(pairs.left_out) == 6
    assert np.array_equal(read_rgb(tmp_path / "deep.png"), image[..., ::-1])
    assert np.array_equal(read_rgb(tmp_path / "alpha.png"), image[..., ::-1])
    assert pairs.batch(3, 0).hr.shape == (3, 3, 32, 32)
    with pytest.raises(ValueError, match="no image can give a patch of 99"):
        PatchPairs([tmp_path], scale=4, patch=99)


def test_gaussian_degradation_is_centred() -> None:
    """A ramp shrinks to the means of its blocks, away from the border."""
    ramp = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)[..., None].repeat(3, 2)
    for scale in (2, 4):
        blocks = ramp.reshape(64 // scale, scale, 48 // scale, scale, 3).mean((1, 3))
        assert np.abs(gaussian(ramp, scale) - blocks)[2:-2, 2:-2].max() <= 0.51


def test_batches_depend_on_step_and_rank_alone(photographs: Path) -> None:
    a, b = PatchPairs([photographs], 2, 8, seed=5), PatchPairs([photographs], 2, 8, seed=5)
    a.batch(2, 0)
    assert torch.equal(a.batch(2, 7).hr, b.batch(2, 7).hr)
    assert not torch.equal(a.batch(2, 7).hr, a.batch(2, 8).hr)
    assert not torch.equal(a.batch(2, 7).hr, a.batch(2, 7, rank=1).hr)


def test_digits(digit_folder: Path, tmp_path: Path) -> None:
    digits = Digits(digit_folder, 4, side=32)
    batch = digits.batch(5, 0)
    assert (batch.lr.shape, batch.hr.shape) == ((5, 1, 8, 8), (5, 1, 32, 32))
    system = DigitSystem(small(PRESETS["digits_classifier_x4"]))
    scores = evaluate_digits(system.generator, DigitClassifier().eval(), Digits(digit_folder, 4), 20)
    assert set(scores) == {"psnr", "ssim", "accuracy_sr", "accuracy_bicubic", "accuracy_hr"}
    (tmp_path / "x-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"\0" * 20)
    with pytest.raises(ValueError, match="cut off"):
        read_idx(tmp_path / "x-images-idx3-ubyte")


def test_the_class_term_reaches_the_generator_only(digit_folder: Path) -> None:
    config = small(PRESETS["digits_classifier_x4"], class_weight=0.5)
    system = DigitSystem(config)
    system.classifier = DigitClassifier().requires_grad_(False).eval()
    batch = Digits(digit_folder, 4).batch(3, 0)
    fake = system.upscale(batch.lr)
    term = system.generator_terms(batch, fake)["class"]
    logits = system.classifier(fake)
    expected = -0.5 * torch.log_softmax(logits, 1)[torch.arange(3), batch.label].mean()
    torch.testing.assert_close(term, expected)
    assert not system.train().classifier.training
    term.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in system.generator.parameters())
    assert not system.discriminator_terms(batch, fake.detach())["class"].requires_grad


def test_a_pass_of_the_generator_leaves_the_discriminator(photographs: Path, tmp_path: Path) -> None:
    """In one iteration the discriminator moves once, by its own loss."""
    run = trainer(gan(), photographs, tmp_path)
    system = run.system
    assert isinstance(system, GanSystem)
    run.advance()
    state = run.optimizers["discriminator"].state_dict()["state"]
    assert {int(s["step"]) for s in state.values()} == {1}


def test_start_from_a_larger_scale(photographs: Path) -> None:
    """Compact x2 begins as the x4 network shrunk by a box filter."""
    torch.manual_seed(0)
    pairs = PatchPairs([photographs], 2, 8)
    from srfast.models import SRVGGNetCompact
    from srfast.training.transfer import start_from

    trained, model = SRVGGNetCompact(num_feat=6, num_conv=1), SRVGGNetCompact(num_feat=6, num_conv=1, upscale=2)
    start_from(model, trained, pairs)
    x = torch.rand(1, 3, 5, 7)
    torch.testing.assert_close(model(x), torch.nn.functional.avg_pool2d(trained(x), 2), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="same width and depth"):
        start_from(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2), trained, pairs)


def test_start_from_gray(tmp_path: Path, digit_folder: Path) -> None:
    """The last convolution of a gray network is fitted too; what has no scale is refused by name."""
    from srfast.models import SRResNet
    from srfast.training.transfer import start_from

    model, trained = (SRResNet(scale, 1, 1, channels=4, num_blocks=1) for scale in (2, 4))
    start_from(model, trained, Digits(digit_folder, 2))
    assert model.conv3.weight[0, :, 2:-2, 2:-2].abs().sum() > 0
    with pytest.raises(ValueError, match="Conv2d cannot start SRResNet x2"):
        start_from(model, torch.nn.Conv2d(3, 3, 1), Digits(digit_folder, 2))


def test_build_starts_near_interpolation(photographs: Path, tmp_path: Path) -> None:
    config = small(PRESETS["compact_x4"])
    source = open_source(config, [photographs])
    system = build(config, source, None, tmp_path)
    assert isinstance(system, System)
    batch = source.batch(4, 0)
    enlarged = torch.nn.functional.interpolate(batch.lr, scale_factor=4, mode="nearest")
    assert (system.generator(batch.lr) - enlarged).abs().mean() < 0.1


def test_the_classifier_is_kept(digit_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run in the folder takes the classifier of the first."""
    digits = Digits(digit_folder, 4)
    monkeypatch.setattr("srfast.training.digits.train_classifier", lambda d: DigitClassifier(d.colours))
    first = classifier_of(digits, tmp_path / "run" / "classifier.pt")
    second = classifier_of(digits, tmp_path / "run" / "classifier.pt")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not second.training
    assert not any(p.requires_grad for p in second.parameters())


def test_frechet_against_interpolation(digit_folder: Path) -> None:
    """A generator that knows the answer has distance zero; the interpolations have not."""
    batch = Digits(digit_folder, 4, side=32).batch(60, 0)
    perfect = torch.nn.Module()
    perfect.forward = lambda x: batch.hr  # type: ignore[method-assign]
    features = Features(DigitClassifier().eval())
    scores = frechet_against_interpolation(perfect, [batch], features)
    assert scores["generator"] == pytest.approx(0, abs=1e-3)
    assert min(scores[k] for k in ("nearest", "bilinear", "bicubic")) > 10 * abs(scores["generator"])
