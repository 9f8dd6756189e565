"""Reuse of what has not changed, and exact regions: the same bits as a full computation, at less cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from srfast.backends.base import FunctionExecutable
from srfast.engine import Engine
from srfast.errors import InputError
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.upscaler import Upscaler
from srfast.video.upscale_stage import Reuse, SequenceUpscaler, changed_blocks, rectangles
from tests.helpers.networks.small import randomise

NETWORKS = {
    "compact": lambda: SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2),
    "srresnet": lambda: SRResNet(2, channels=8, num_blocks=1),
}
BACKENDS = ["auto", "reference"]


@pytest.fixture(params=NETWORKS)
def upscaler(request: pytest.FixtureRequest) -> Upscaler:
    return Upscaler(randomise(NETWORKS[request.param]()))


def frames(shape: tuple[int, int], dtype: type = np.uint8) -> list[np.ndarray]:
    """A still picture in which something happens now and then: a dot, a line at the edge, noise in a corner, all new."""
    chance = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    still = chance.integers(0, top, (*shape, 3), dtype=dtype, endpoint=True)
    result = [still, still.copy()]
    for place in (np.s_[5, 7], np.s_[-1:], np.s_[:, 0:1], np.s_[20:24, 30:35]):
        still = still.copy()
        still[place] = top - still[place]
        result += [still, still.copy()]
    still = still.copy()
    still[::40, ::50] = 3
    return [*result, still, chance.integers(0, top, (*shape, 3), dtype=dtype, endpoint=True)]


@pytest.mark.parametrize("shape", [(61, 83), (200, 230)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reuse_gives_the_same_bits(upscaler: Upscaler, shape: tuple[int, int], dtype: type) -> None:
    reusing, computing = SequenceUpscaler(upscaler), SequenceUpscaler(upscaler, reuse=False)
    for frame in frames(shape, dtype):
        assert np.array_equal(reusing(frame), computing(frame))
    assert reusing.statistics.repeated == 5
    assert reusing.statistics.computed < computing.statistics.computed == computing.statistics.pixels


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tile", [None, 48])
def test_reuse_by_the_engines_own_tiles(backend: str, tile: int | None) -> None:
    """Where sums may depend on a window's size, only the engine's own tiles are reused."""
    upscaler = Upscaler(randomise(NETWORKS["compact"]()), backend=backend, tile=tile)
    upscaler.engine.exact = False
    reusing, computing = SequenceUpscaler(upscaler), SequenceUpscaler(upscaler, reuse=False)
    for frame in frames((200, 230)):
        assert np.array_equal(reusing(frame), computing(frame))
    if tile:
        assert reusing.statistics.computed < 0.9 * len(frames((200, 230))) * 200 * 230


def test_results_handed_out_are_not_changed_later(upscaler: Upscaler) -> None:
    sequence = SequenceUpscaler(upscaler)
    results = [sequence(frame) for frame in frames((61, 83))]
    again = [SequenceUpscaler(upscaler, reuse=False)(frame) for frame in frames((61, 83))]
    assert all(np.array_equal(a, b) for a, b in zip(results, again, strict=True))


def test_alpha_and_sizes_may_change(upscaler: Upscaler) -> None:
    sequence = SequenceUpscaler(upscaler)
    chance = np.random.default_rng(1)
    image = chance.integers(0, 256, (30, 41, 4), dtype=np.uint8)
    image[:, :, 3] = np.maximum(image[:, :, 3], 1)  # no colour is hidden
    out = sequence(image)
    assert out.shape == (60, 82, 4)
    assert np.array_equal(out[:, :, :3], SequenceUpscaler(upscaler)(np.ascontiguousarray(image[:, :, :3])))
    assert sequence(np.ascontiguousarray(image[:20])).shape == (40, 82, 4)


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (60, 82, 1, 1), (13, 7, 20, 31), (0, 0, 61, 83), (50, 0, 11, 83), (42, 45, 9, 9)]
)
def test_a_region_is_the_crop(upscaler: Upscaler, box: tuple[int, int, int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 65536, (61, 83, 3), dtype=np.uint16)
    top, left, height, width = box
    whole = upscaler(image)
    part = upscaler.upsample(image, roi=(left, top, width, height))
    assert np.array_equal(part, whole[2 * top : 2 * (top + height), 2 * left : 2 * (left + width)])


def test_a_region_of_a_large_image_costs_its_own_size() -> None:
    engine = Engine(Upscaler(randomise(NETWORKS["compact"]())).plan)
    sizes: list[torch.Size] = []
    run = engine._runner.run
    engine._runner.run = FunctionExecutable(lambda x: (sizes.append(x.shape), run(x))[1], run.traits)
    image = torch.randint(0, 256, (1, 400, 500, 3), dtype=torch.uint8)
    part = engine.region(image, 200, 100, 30, 40)
    assert torch.equal(part, engine(image)[:, 400:460, 200:280])
    assert sizes[0][2] * sizes[0][3] <= (30 + 2 * engine.halo + 8) * (40 + 2 * engine.halo + 8)


@pytest.mark.parametrize("roi", [(-1, 0, 5, 5), (0, 0, 0, 5), (80, 0, 4, 4), (0, 58, 4, 4)])
def test_a_region_outside_is_refused(upscaler: Upscaler, roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="not inside"):
        upscaler.upsample(np.zeros((61, 83, 3), np.uint8), roi=roi)


class Everywhere(nn.Module):
    """Looks at the whole image, so no part can be computed alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(3, affine=True)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x))


def test_networks_that_see_everything() -> None:
    torch.manual_seed(0)
    upscaler = Upscaler(Everywhere().eval())
    image = frames((40, 50))
    assert np.array_equal(upscaler.upsample(image[0], roi=(3, 4, 10, 12)), upscaler(image[0])[4:16, 3:13])
    sequence = SequenceUpscaler(upscaler)
    for frame in image:
        assert np.array_equal(sequence(frame), SequenceUpscaler(upscaler, reuse=False)(frame))


def test_blocks_and_rectangles() -> None:
    a = np.zeros((40, 50, 3), np.uint8)
    b = a.copy()
    assert not changed_blocks(a, b).any()
    b[39, 49, 2] = 1
    assert changed_blocks(a, b).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert rectangles(changed_blocks(a, b), 3, 40, 50) == [(29, 45, 40, 50)]
    far = np.zeros((64, 64), np.uint8)
    far[0, 0] = far[63, 63] = 1
    assert len(rectangles(far, 10, 1024, 1024)) == 2
    far[1, 2] = 1
    assert len(rectangles(far, 10, 1024, 1024)) == 2
    assert Reuse().saved == 0
