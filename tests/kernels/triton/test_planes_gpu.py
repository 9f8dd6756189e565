"""Video planes on a GPU: through page-locked memory and queues, in tiles, and a whole video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from srfast.capture import capture
from srfast.engine import Engine
from srfast.kernels import cuda
from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference
from srfast.models import SRVGGNetCompact
from srfast.plan import Plan
from srfast.plan.passes import optimise
from srfast.upscaler import Upscaler
from tests.helpers.networks.small import randomise

pytestmark = pytest.mark.needs_gpu


@pytest.fixture(params=["triton", "cuda"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "cuda" and cuda.unavailable_reason():
        pytest.fail(str(cuda.unavailable_reason()))
    return name


def plan_of() -> Plan:
    torch.manual_seed(0)
    return optimise(capture(randomise(SRVGGNetCompact(num_conv=2, upscale=2))))


def pictures(height: int, width: int, colour: PlaneColour, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, colour.peak + 1, (1, height // 2 * 3, width, 1), generator=generator)
    return (codes * colour.step).to(colour.dtype)


@pytest.mark.parametrize("colour", [PlaneColour(1), PlaneColour(9, dtype=torch.uint16)])
@pytest.mark.parametrize("tile", [0, 40])
def test_pictures_on_their_way(backend: str, tile: int, colour: PlaneColour) -> None:
    """Several at a time from host memory, against those that are never copied, and against the twins in float32."""
    engine = Engine(plan_of(), device="cuda", backend=backend, tile=tile)
    exact = Engine(plan_of(), device="cpu", dtype=torch.float32, backend="reference", tile=0)
    given = [pictures(96, 160, colour, seed) for seed in range(7)]
    on_device = [engine.begin(x.cuda(), colour=colour)().cpu() for x in given]
    waiting = []
    for x, expected in zip(given, on_device, strict=True):
        waiting.append((engine.begin(x, colour=colour), expected))
        if len(waiting) == 3:
            result, expected = waiting.pop(0)
            assert torch.equal(result(), expected)
    for result, expected in waiting:
        assert torch.equal(result(), expected)
    rgb = load_planes_reference(Planes.of(given[0], colour), 1.0).permute(0, 2, 3, 1).float()
    theirs = store_planes_reference(exact(rgb).permute(0, 3, 1, 2), 1.0, colour).picture
    error = (on_device[0].int() - theirs.int()).abs() // colour.step
    assert int(error.max()) <= (1 if colour.dtype == torch.uint8 else 4)


def test_a_video(backend: str, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="videos need PyAV")
    from srfast.video import Encoding, upscale_video
    from srfast.video.planes import to_planes
    from tests.helpers.video.gradients import STEADY, make_clip

    source = make_clip(tmp_path / "in.mkv", STEADY, tags=(1, 1, 1, 1))
    results = []
    for device, name in (("cuda", backend), ("cpu", "reference")):
        torch.manual_seed(0)
        network = randomise(SRVGGNetCompact(num_conv=2, upscale=2))
        upscaler = Upscaler(network, device=device, backend=name, dtype="fp16" if device == "cuda" else "fp32")
        assert (upscaler.engine.plane_unit == 2) == (device == "cuda")
        upscale_video(source, tmp_path / f"{device}.mkv", upscaler, encoding=Encoding("ffv1", None, None))
        with av.open(str(tmp_path / f"{device}.mkv")) as c:
            results.append([to_planes(f, f.format.name, (f.width, f.height)) for f in c.decode(video=0)])
    # The reference goes by way of 8-bit RGB.
    for ours, theirs in zip(*results, strict=True):
        assert np.abs(ours.astype(int) - theirs).mean() <= 1.5
