"""Exported ncnn files: run by ncnn itself within a level of srfast, read back by srfast, and refused where they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srfast.capture import capture
from srfast.checkpoint import load_model
from srfast.cli import main
from srfast.engine import Engine
from srfast.errors import OutputError, UnsupportedModelError
from srfast.models import RCAN, SPAN, RRDBNet, SRResNet, SRVGGNetCompact
from srfast.plan.export_ncnn import export_ncnn
from srfast.plan.passes import optimise
from tests.helpers.networks.small import randomise

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "srresnet": lambda: SRResNet(4, channels=8, num_blocks=2),
    "compact": lambda: SRVGGNetCompact(num_feat=8, num_conv=2, upscale=3),
    "compact_leaky": lambda: SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2, act_type="leakyrelu"),
    "rrdbnet": lambda: RRDBNet(num_feat=8, num_block=1, num_grow_ch=4),
    "span": lambda: SPAN(num_feat=8, num_blocks=2, upscale=2),
    "span_without_mean": lambda: SPAN(num_feat=8, num_blocks=2, upscale=4, norm=False),
    "curves": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Mish(),
        nn.Conv2d(8, 8, 1),
        nn.GELU(),
        nn.Conv2d(8, 3, 5, padding=2),
        nn.Tanh(),
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 7, padding=3, groups=8),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Mish(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.PixelShuffle(2),
    ),
    "bicubic": lambda: nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Upsample(scale_factor=2, mode="bicubic")),
}


def module_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomise(NETWORKS[name]()).eval()


def of_ncnn(param: Path, x: Tensor) -> Tensor:
    """[C, H, W] float32 through ncnn, in float32, by the names that the programs ask for."""
    ncnn = pytest.importorskip("ncnn")
    net = ncnn.Net()
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "vulkan_compute"):
        setattr(net.opt, f"use_{option}", False)
    assert net.load_param(str(param)) == 0
    assert net.load_model(str(param.with_suffix(".bin"))) == 0
    run = net.create_extractor()
    assert run.input("data", ncnn.Mat(np.ascontiguousarray(x.numpy())).clone()) == 0
    code, out = run.extract("output")
    assert code == 0
    return torch.from_numpy(np.array(out))


@pytest.mark.parametrize("name", NETWORKS)
def test_ncnn_runs_it(name: str, tmp_path: Path) -> None:
    """Within one level of 255 of srfast's compiled kernels, float32, odd sizes; and srfast reads the files back."""
    module = module_of(name)
    plan = optimise(capture(module))
    export_ncnn(plan, tmp_path / "n.param")
    engine = Engine(plan, device="cpu", dtype=torch.float32)
    again = Engine(optimise(capture(load_model(tmp_path / "n.param").module)), device="cpu", dtype=torch.float32)
    for height, width in ((23, 37), (12, 9)):
        image = torch.randint(
            0, 256, (1, height, width, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
        )
        ours = engine(image)[0].permute(2, 0, 1).float()
        theirs = of_ncnn(tmp_path / "n.param", image[0].permute(2, 0, 1).float() / 255)
        assert ours.shape == theirs.shape
        with torch.no_grad():
            exact = module(image.permute(0, 3, 1, 2).float() / 255)[0]
        torch.testing.assert_close(theirs, exact, rtol=0, atol=2e-5 * max(1.0, float(exact.abs().max())))
        assert float((ours - theirs.clamp(0, 1).mul(255).round()).abs().max()) <= 1
        assert float((ours - again(image)[0].permute(2, 0, 1)).abs().max()) <= 1


def test_half_precision(tmp_path: Path) -> None:
    plan = optimise(capture(module_of("compact")))
    export_ncnn(plan, tmp_path / "half.param", torch.float16)
    export_ncnn(plan, tmp_path / "whole.param")
    sizes = [(tmp_path / f"{name}.bin").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    rounded = load_model(tmp_path / "half.param").module
    x = torch.rand(3, 11, 18, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(of_ncnn(tmp_path / "half.param", x), rounded(x[None])[0], rtol=0, atol=2e-4)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "gates": (lambda: RCAN(num_feat=16, num_groups=1, num_blocks=1), "whole image"),
    "unshuffle": (lambda: RRDBNet(scale=2, num_feat=6, num_block=1, num_grow_ch=4), "multiples of 2"),
    "slices": (lambda: Halves(), "no layer of ncnn is written for slice"),
}


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(self.first(x))
        result: Tensor = self.last(y[:, :4] * torch.tanh(y[:, 4:8]))
        return result


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_wrong_is_refused(name: str, tmp_path: Path) -> None:
    module, says = REFUSED[name]
    with pytest.raises(UnsupportedModelError, match=says):
        export_ncnn(optimise(capture(module())), tmp_path / "n.param")
    assert list(tmp_path.iterdir()) == []


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    param = tmp_path / "n.param"
    assert main(["export", "compact_x2", str(param)]) == 0
    assert "blob 'data'" in capsys.readouterr().out
    assert load_model(param).architecture == "SRVGGNetCompact"
    before = [file.read_bytes() for file in (param, param.with_suffix(".bin"))]
    assert main(["export", "compact_x4", str(param)]) == OutputError.exit_code
    assert [file.read_bytes() for file in (param, param.with_suffix(".bin"))] == before
    assert main(["export", "compact_x4", str(param), "-y", "--dtype", "fp16"]) == 0
    assert load_model(param).scale == 4
    assert main(["export", "compact_x2", str(tmp_path / "n.bin")]) == OutputError.exit_code
