"""8-bit networks: what calibration finds and says, and what becomes 8-bit."""

from __future__ import annotations

import pytest
import torch

from srfast.backends.cpu import CpuBackend, int8_set
from srfast.backends.cpu.calibrate import calibrate
from srfast.backends.cpu.quantize import lowp_convs
from srfast.capture import capture
from srfast.engine.tiling import tile_by_size
from srfast.models import RRDBNet, SRResNet
from srfast.plan.passes import in_units, optimise

pytestmark = pytest.mark.skipif(int8_set() is None, reason="this CPU has neither AMX-INT8 nor AVX512-VNNI")
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["srresnet", "rrdb"])
def test_calibrated_networks_stay_close(name: str) -> None:
    torch.manual_seed(0)
    model = SRResNet(4, num_blocks=2) if name == "srresnet" else RRDBNet(num_feat=32, num_block=1, num_grow_ch=16)
    plan = in_units(optimise(capture(model.eval())), 255.0, 255.0)
    convs = [node.output for node in lowp_convs(plan)]
    assert convs and plan.nodes[0].output not in convs and plan.output not in convs
    x = torch.rand(2, 3, 24, 31).mul(255).round()
    exact = CpuBackend().compile(plan, CPU, torch.float32)(x)
    int8 = calibrate(plan, x, peak=float(exact.abs().max()))
    assert set(int8.convs) == set(convs)
    y = CpuBackend(int8=int8).compile(plan, CPU, torch.float32)(x)
    error = (y - exact).square().mean()
    assert error > 0  # it is not the float32 network
    measured = 10 * torch.log10(exact.abs().max() ** 2 / error)
    assert int8.psnr > 35 and abs(measured - int8.psnr) < 0.1
    x[0, 0, 3, 3] = float("nan")
    assert CpuBackend(int8=int8).compile(plan, CPU, torch.float32)(x).isnan().any()


@pytest.mark.parametrize("tile", [16, 23])
def test_tiles_equal_the_whole_image_bit_for_bit(tile: int) -> None:
    torch.manual_seed(0)
    plan = in_units(optimise(capture(SRResNet(4, num_blocks=2).eval())), 255.0, 255.0)
    x = torch.rand(1, 3, 61, 47).mul(255).round()
    run = CpuBackend(int8=calibrate(plan, x, 255.0)).compile(plan, CPU, torch.float32)
    whole = run(x)
    tiling = tile_by_size(61, 47, tile, run.traits.halo, run.traits.alignment)
    assert len(tiling) > 4
    for row, column in tiling:
        part = run(x[:, :, row.start : row.start + row.size, column.start : column.start + column.size])
        y, x0 = 4 * (row.first - row.start), 4 * (column.first - column.start)
        expected = whole[:, :, 4 * row.first : 4 * row.last, 4 * column.first : 4 * column.last]
        assert torch.equal(part[:, :, y : y + expected.shape[2], x0 : x0 + expected.shape[3]], expected)


def test_images_are_needed() -> None:
    plan = optimise(capture(SRResNet(4, num_blocks=1).eval()))
    with pytest.raises(ValueError, match="images"):
        calibrate(plan, torch.empty(0, 3, 8, 8), 1.0)
