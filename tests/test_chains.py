"""Chains of networks in one pass, the mean over orientations, and networks of one and of four planes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import srfast
from srfast.checkpoint import save_checkpoint
from srfast.cli import main
from srfast.cli.main import _parser
from srfast.engine import Engine
from srfast.errors import InputError, UnsupportedModelError
from srfast.models import RealCUGAN, RRDBNet, SRVGGNetCompact
from srfast.models.artcnn import ArtCNN
from srfast.models.bordered import Bordered
from srfast.planning import chained, plan_network
from tests.helpers.networks.small import randomise


def compact(scale: int, seed: int, planes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return randomise(SRVGGNetCompact(planes, planes, num_feat=8, num_conv=1, upscale=scale)).eval()


class Softened(nn.Module):
    """With a part that PyTorch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(self.conv(x))


def frame(channels: int, seed: int = 4) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (37, 46, channels), np.uint8)
    return cv2.GaussianBlur(image, (0, 0), 1.5).reshape(37, 46, channels)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_chain_is_one_network_after_the_other(backend: str) -> None:
    """Float32 on the CPU: x1, then x2 that folds 2x2 pixels, then x3; tiles are exact where those of all are."""
    torch.manual_seed(1)
    networks = [
        compact(1, 1),
        randomise(RRDBNet(scale=2, num_feat=6, num_block=1, num_grow_ch=4)).eval(),
        compact(3, 3),
    ]
    plan = chained([plan_network(network) for network in networks])
    assert (plan.scale, plan.alignment) == (6, 2)
    x = torch.rand(1, 3, 38, 46, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = x
        for network in networks:
            expected = network(expected).clamp(0, 1)
    images = x.permute(0, 2, 3, 1)
    whole = Engine(plan, backend=backend, device="cpu", dtype=torch.float32, tile=0)
    torch.testing.assert_close(whole(images).permute(0, 3, 1, 2), expected, rtol=0, atol=5e-5)
    tiled = Engine(plan, backend=backend, device="cpu", dtype=torch.float32, tile=16)
    torch.testing.assert_close(tiled(images), whole(images), rtol=0, atol=0 if tiled.exact else 1e-5)
    assert tiled.statistics.tiles > 1


class Multiple(Bordered):
    """Of images whose sides are multiples of twice a factor, though its operations ask for the factor alone."""

    scale, border = 1, 0

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.multiple = 2 * factor
        width = 3 * factor**2
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(factor), nn.Conv2d(width, width, 3, padding=1), nn.PixelShuffle(factor)
        )

    def body(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def test_a_chain_of_multiples_takes_those_of_all() -> None:
    """Float32 on the CPU: 4 and 6 make 12; the image is mirrored to it once, before the first network."""
    torch.manual_seed(8)
    networks = [Multiple(2).eval(), Multiple(3).eval()]
    plan = chained([plan_network(network) for network in networks])
    assert plan.alignment == 12
    x = torch.rand(1, 3, 20, 27, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        padded = F.pad(x, (0, 9, 0, 4), "reflect")
        expected = networks[1].body(networks[0].body(padded).clamp(0, 1)).clamp(0, 1)[:, :, :20, :27]
    for tile in (0, 12):
        got = Engine(plan, device="cpu", dtype=torch.float32, tile=tile)(x.permute(0, 2, 3, 1))
        torch.testing.assert_close(got.permute(0, 3, 1, 2), expected, rtol=0, atol=5e-5)


def test_a_chain_with_what_pytorch_runs() -> None:
    torch.manual_seed(6)
    networks = [Softened().eval(), compact(2, 1)]
    fast = srfast.Upscaler(networks, device="cpu", dtype="fp32")
    x = torch.rand(1, 3, 20, 24)
    with torch.inference_mode():
        expected = networks[1](networks[0](x).clamp(0, 1)).clamp(0, 1)
    torch.testing.assert_close(fast(x), expected, rtol=0, atol=2e-5)


def test_chains_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="takes 1 colour planes, and the one before gives 3"):
        srfast.Upscaler([compact(1, 1), compact(2, 1, planes=1)], device="cpu")
    with pytest.raises(UnsupportedModelError, match="border of 18 pixels"):
        srfast.Upscaler([compact(1, 1), RealCUGAN(upscale=2).eval()], device="cpu")
    with pytest.raises(InputError, match="at least one"):
        srfast.Upscaler([], device="cpu")


def test_the_mean_of_eight_orientations() -> None:
    """Each orientation by NumPy's own turns."""
    network = compact(2, 5)
    plain = srfast.Upscaler(network, device="cpu", dtype="fp32")
    x = torch.rand(1, 3, 21, 30, generator=torch.Generator().manual_seed(2))
    total = np.zeros((42, 60, 3), np.float64)
    image = x[0].permute(1, 2, 0).numpy()
    for mirrored in (False, True):
        for turns in range(4):
            turned = np.rot90(image[:, ::-1] if mirrored else image, turns).copy()
            y = plain(torch.from_numpy(turned).permute(2, 0, 1)).permute(1, 2, 0).numpy()
            y = np.rot90(y, -turns)
            total += y[:, ::-1] if mirrored else y
    got = srfast.Upscaler(network, device="cpu", dtype="fp32", self_ensemble=True)(x)
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), total / 8, atol=1e-6)
    assert float((got - plain(x)).abs().max()) > 1e-3


def test_a_network_of_one_plane() -> None:
    """Gray images go through as they are; of colour ones the luma does, and a gray one in colour stays gray."""
    torch.manual_seed(3)
    network = randomise(ArtCNN(num_in_ch=1, upscale=2, num_feat=8, num_blocks=1)).eval()
    upscaler = srfast.Upscaler(network, device="cpu", dtype="fp32")
    gray = frame(1)[:, :, 0]
    with torch.inference_mode():
        x = torch.from_numpy(gray)[None, None] / 255
        expected = (network(x).clamp(0, 1) * 255).round()[0, 0].numpy()
    out = upscaler(gray)
    assert out.shape == (74, 92)
    assert np.abs(out.astype(int) - expected).max() <= 1
    colour = upscaler(np.repeat(gray[:, :, None], 3, 2))
    assert np.abs(colour.astype(int) - out[:, :, None]).max() <= 1
    image = frame(3)
    luma = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    got = cv2.cvtColor(upscaler(image), cv2.COLOR_BGR2GRAY)
    inside = (got > 8) & (got < 247)
    assert np.abs(got.astype(int) - upscaler(luma))[inside].mean() < 4
    assert upscaler(frame(4)).shape == (74, 92, 4)
    assert upscaler(torch.rand(2, 3, 9, 11)).shape == (2, 3, 18, 22)


def test_a_network_of_four_planes() -> None:
    network = compact(2, 7, planes=4)
    upscaler = srfast.Upscaler(network, device="cpu", dtype="fp32")
    image = frame(4)
    with torch.inference_mode():
        x = torch.from_numpy(image[:, :, [2, 1, 0, 3]].copy()).permute(2, 0, 1)[None] / 255
        expected = (network(x).clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()[:, :, [2, 1, 0, 3]]
    assert np.abs(upscaler(image).astype(int) - expected).max() <= 1
    opaque = np.concatenate([image[:, :, :3], np.full((37, 46, 1), 255, np.uint8)], 2)
    assert np.array_equal(upscaler(image[:, :, :3].copy()), upscaler(opaque)[:, :, :3])


def test_the_command_takes_several_models(tmp_path: Path) -> None:
    for name, scale in (("clean", 1), ("large", 2)):
        save_checkpoint(compact(scale, scale), tmp_path / f"{name}.safetensors")
    cv2.imwrite(str(tmp_path / "in.png"), frame(3))
    models = ["-m", str(tmp_path / "clean.safetensors"), "-m", str(tmp_path / "large.safetensors")]
    options = ["--device", "cpu", "--fp32", "--self-ensemble"]
    assert main(["upscale", str(tmp_path / "in.png"), str(tmp_path / "out.png"), *models, *options]) == 0
    got = cv2.imread(str(tmp_path / "out.png"))
    upscaler = srfast.load(models[1::2], device="cpu", dtype="fp32", self_ensemble=True)
    assert np.array_equal(got, upscaler(frame(3)))


def test_videos_of_networks_for_frames_are_refused(tmp_path: Path) -> None:
    from srfast.video import upscale_video

    upscaler = srfast.Upscaler(compact(2, 1), device="cpu", dtype="fp32", self_ensemble=True)
    clip = Path(srfast.__file__).parent / "assets" / "clip.mp4"
    source = next(iter(sorted(clip.parent.glob("*.mp4"))))
    with pytest.raises(InputError, match="frames"):
        upscale_video(source, tmp_path / "out.mkv", upscaler)


def test_a_name_that_is_given_again_counts_alone() -> None:
    """Scripts add ``-n other`` to a line that names one: only ``-m`` makes a chain."""
    parser = _parser()
    given = {
        "-n a -n b": ["b"],
        "--model_name a -m x -n b": ["b"],
        "-n a -m x": ["a", "x"],
        "-m x -m y": ["x", "y"],
        "-n a --model_name b --model y": ["b", "y"],
    }
    for line, models in given.items():
        assert parser.parse_args(["upscale", "in.png", "out.png", *line.split()]).model == models
    assert parser.parse_args(["upscale", "in.png", "out.png"]).model is None
