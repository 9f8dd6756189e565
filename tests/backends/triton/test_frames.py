"""Frames, video planes and the engine on the Triton backend, in the interpreter or on a GPU."""

import pytest
import torch

from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import TritonBackend
from srfast.engine import Engine
from srfast.kernels.planes import PlaneColour, load_planes_reference, store_planes_reference
from srfast.models import SRVGGNetCompact
from srfast.plan import Clamp, Conv, Plan
from tests.helpers.triton_plans import DEVICE, HALF, NETWORKS, compile_triton, image, network, reference


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("last", ["convolution", "clamp"])
def test_frames(last: str, dtype: torch.dtype) -> None:
    """Frames through the kernels equal frames converted by torch around the network, up to half a step."""
    plan = network(NETWORKS["srresnet"])
    if last == "clamp":
        plan = Plan((*plan.nodes, Clamp("clamped", plan.output, 0.0, 1.0)), plan.input, "clamped", 3)
    peak = 255 if dtype == torch.uint8 else 65535
    frames = (image(2, 6, 7, 3).double() * peak).round().to(dtype)
    out, flag = compile_triton(plan).run_frames(frames, 1 / peak, 1.0)
    expected = reference(plan, frames.permute(0, 3, 1, 2).double() / peak).permute(0, 2, 3, 1).clamp(0, 1) * peak
    error = (out.double().cpu() - expected).abs()
    assert out.dtype == dtype
    assert int(flag) == 0
    assert float(error.max()) <= 0.5 + 4e-3 * peak


@pytest.mark.parametrize("last", ["convolution", "clamp"])
def test_bgr_frames(last: str) -> None:
    """Channels turned round on both sides by the kernels, with the base that a residual adds among them."""
    plan = network(NETWORKS["compact"])
    if last == "clamp":
        plan = Plan((*plan.nodes, Clamp("clamped", plan.output, 0.0, 1.0)), plan.input, "clamped", 3)
    frames = (image(1, 3, 5, 3) * 255).to(torch.uint8)
    run = compile_triton(plan)
    expected, _ = run.run_frames(frames.flip(3), 1 / 255, 1.0)
    out, _ = run.run_frames(frames, 1 / 255, 1.0, bgr=True)
    assert torch.equal(out, expected.flip(3))


@pytest.mark.parametrize("colour", [PlaneColour(1), PlaneColour(6, True, torch.uint16)])
def test_planes(colour: PlaneColour) -> None:
    """Planes through the kernels equal planes converted in float64 around the network, but for its rounding."""
    plan = network(NETWORKS["compact"])
    rgb = image(1, 3, 4, 6)
    planes = store_planes_reference(rgb, 1.0, colour)
    out, flag = compile_triton(plan).run_planes(planes, 1.0, 1.0)
    y = reference(plan, load_planes_reference(planes, 1.0))
    expected = store_planes_reference(y, 1.0, colour)
    assert int(flag) == 0
    for ours, theirs in ((out.luma, expected.luma), (out.chroma, expected.chroma)):
        error = (ours.double().cpu() - theirs.double()).abs().max() / colour.step
        assert float(error) <= 0.5 + 6e-3 * colour.peak


def test_frames_report_overflow() -> None:
    first = Conv("y", "x", torch.full((3, 3, 3, 3), 6e4), torch.zeros(3))
    plan = Plan((first, Conv("z", "y", torch.ones(3, 3, 1, 1), torch.zeros(3))), "x", "z", 3)
    run = compile_triton(plan)
    for value, found in ((0, 0), (200, 1), (0, 0)):
        _, flag = run.run_frames(torch.full((1, 4, 5, 3), value, dtype=torch.uint8), 1.0, 255.0)
        assert int(flag) == found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_engine(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of frames equal the whole frame to the bit, and are within a step of the reference engine."""
    monkeypatch.setattr("srfast.backends.BACKENDS", (TritonBackend(interpret=True), ReferenceBackend()))
    peak = {torch.uint8: 255, torch.uint16: 65535, torch.float32: 1}[dtype]
    frames = (image(1, 9, 13, 3).double() * peak).to(dtype)
    plan = network(lambda: SRVGGNetCompact(num_feat=16, num_conv=1, upscale=2))
    whole = Engine(plan, backend="triton", device=DEVICE, dtype=HALF, tile=0)(frames)
    tiled = Engine(plan, backend="triton", device=DEVICE, dtype=HALF, tile=5)(frames)
    assert torch.equal(whole, tiled)
    expected = Engine(plan, backend="reference", device="cpu", dtype=torch.float32)(frames)
    error = (whole.double() - expected.double()).abs().max()
    assert float(error) <= max(1.0 if peak == 255 else 0, 4e-3 * peak)


def test_engine_redoes_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srfast.backends.BACKENDS", (TritonBackend(interpret=True), ReferenceBackend()))
    first = Conv("y", "x", torch.full((3, 3, 1, 1), 6e4), torch.zeros(3), act="prelu", slope=torch.ones(3))
    plan = Plan((first, Conv("z", "y", torch.full((3, 3, 1, 1), 2e-6), torch.zeros(3))), "x", "z", 3)
    engine = Engine(plan, backend="triton", device=DEVICE, dtype=HALF)
    out = engine(torch.full((1, 4, 5, 3), 200, dtype=torch.uint8))
    assert engine.statistics.redone == 1
    assert out.unique().tolist() == [216]  # 200 * 3 * 6e4 * 3 * 2e-6
