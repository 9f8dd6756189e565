"""Pictures of video planes through the engine: tiles, queues, memory, and what overflows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srfast.capture import capture
from srfast.engine import Engine
from srfast.errors import InputError
from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference
from srfast.models import SRVGGNetCompact
from srfast.plan.passes import optimise
from tests.helpers.networks.small import randomise
from tests.helpers.plane_network import take_planes

NV12, P010 = PlaneColour(1), PlaneColour(6, full=True, dtype=torch.uint16)


def engine_of(**options: int) -> Engine:
    torch.manual_seed(0)
    plan = optimise(capture(randomise(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2))))
    return Engine(plan, device="cpu", dtype=torch.float32, backend="reference", **options)


def pictures(count: int, height: int, width: int, colour: PlaneColour = NV12, seed: int = 0) -> Tensor:
    """Every code of the format."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, colour.peak + 1, (count, height // 2 * 3, width, 1), generator=generator)
    return (codes * colour.step).to(colour.dtype)


def expected_of(x: Tensor, colour: PlaneColour) -> Tensor:
    rgb = load_planes_reference(Planes.of(x, colour), 1.0).permute(0, 2, 3, 1).float()
    y = engine_of(tile=0)(rgb).permute(0, 3, 1, 2)
    return store_planes_reference(y, 1.0, colour).picture


def close(ours: Tensor, theirs: Tensor, colour: PlaneColour) -> None:
    assert ours.shape == theirs.shape
    error = (ours.int() - theirs.int()).abs()
    assert int(error.max()) <= colour.step
    assert float((error > 0).double().mean()) < 2e-3


@pytest.mark.parametrize("colour", [NV12, P010])
@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("tile", [0, 8])
def test_planes_equal_the_twins(tile: int, seed: int | None, colour: PlaneColour) -> None:
    """Whole and in tiles, whose chroma is filtered across their edges; through queues and without."""
    engine = engine_of(tile=tile)
    network = take_planes(engine, seed=seed)
    x = pictures(3, 18, 26, colour)
    close(engine.begin(x, colour=colour)(), expected_of(x, colour), colour)
    assert max(call[0] for call in network.calls) > 1, "several pictures or tiles go together"
    assert engine.statistics.images == 3


@pytest.mark.parametrize("tile", [8, 16])
def test_chroma_beyond_a_tile(tile: int) -> None:
    """A network that looks at single pixels: only the planes' own filters reach beyond a tile."""
    enlarge = nn.Sequential(nn.Conv2d(3, 12, 1, bias=False), nn.PixelShuffle(2))
    enlarge[0].weight.data = torch.eye(3).repeat_interleave(4, 0).view(12, 3, 1, 1)
    plan = optimise(capture(enlarge))
    assert plan.halo() == 0
    engines = [Engine(plan, device="cpu", dtype=torch.float32, backend="reference", tile=t) for t in (0, tile)]
    x = pictures(1, 30, 44)
    for engine in engines:
        take_planes(engine)
    whole, tiled = (engine.begin(x, colour=NV12)() for engine in engines)
    assert torch.equal(whole, tiled)


@pytest.mark.parametrize("seed", range(3))
def test_several_on_their_way(seed: int) -> None:
    """RGB frames and planes of both kinds between one another, results in order."""
    engine = engine_of(tile=0)
    take_planes(engine, seed=seed)
    kinds = (NV12, P010, NV12)
    given = [pictures(1, 8 + 2 * i, 10, colour, seed=i) for i, colour in enumerate(kinds)]
    waiting = [engine.begin(x, colour=colour) for x, colour in zip(given, kinds, strict=True)]
    for result, x, colour in zip(waiting, given, kinds, strict=True):
        close(result(), expected_of(x, colour), colour)


def test_out_of_memory_halves_the_tile() -> None:
    engine = engine_of(tile=0)
    take_planes(engine, most=32 * 32)
    x = pictures(1, 60, 50)
    close(engine.begin(x, colour=NV12)(), expected_of(x, NV12), NV12)
    assert engine.statistics.out_of_memory >= 1


@pytest.mark.parametrize("seed", [None, 0])
def test_what_overflows_is_done_again(seed: int | None) -> None:
    engine = engine_of(tile=0)
    take_planes(engine, seed=seed).overflow = True
    x = pictures(1, 8, 10)
    close(engine.begin(x, colour=NV12)(), expected_of(x, NV12), NV12)
    assert engine.statistics.redone == 1


def test_what_is_refused() -> None:
    engine = engine_of(tile=0)
    with pytest.raises(InputError, match="takes no video planes"):
        engine.begin(pictures(1, 4, 4), colour=NV12)
    take_planes(engine)
    for bad in (pictures(1, 4, 5), pictures(1, 4, 4)[:, :5], pictures(1, 4, 4, P010), torch.zeros(1, 4, 4, 3)):
        with pytest.raises(InputError, match="multiples of 2"):
            engine.begin(bad, colour=NV12)


def test_pictures_share_memory_where_they_can() -> None:
    x = pictures(2, 6, 8)
    planes = Planes.of(x, NV12)
    assert planes.picture.data_ptr() == x.data_ptr()
    assert torch.equal(planes.picture, x)
    apart = Planes(planes.luma.clone(), planes.chroma.clone(), NV12)
    assert torch.equal(apart.picture, x)
