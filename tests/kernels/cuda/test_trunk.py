"""A trunk in one launch has the bits of launches one after another, at every border and for any number of blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.hopper import hopper_launch
from srfast.kernels.cuda.pack import CudaConv, pack_conv
from srfast.kernels.cuda.trunk import MOST_LAYERS, Layer, pack_trunk, trunk_launch
from srfast.kernels.reference import conv_reference
from tests.helpers.cuda.problems import BRAIN, HALF, canvas_of, numbers, problem

pytestmark = pytest.mark.usefixtures("emulated_cuda")


def conv_of(seed: int, dtype: torch.dtype, **options: object) -> tuple[CudaConv, dict[str, object]]:
    """A packed convolution, and what ``conv_reference`` takes for it."""
    given = {
        "weight": (numbers(64, 64, 3, 3, seed=seed) / 24).to(dtype).float(),
        "bias": numbers(64, seed=seed + 1),
        **options,
    }
    return pack_conv(**given, dtype=dtype), given  # type: ignore[arg-type]


class Residuals:
    """Residual blocks and a last convolution, as SRResNet and EDSR have them, with canvases twice: to run apart and together."""

    def __init__(self, blocks: int, size: tuple[int, int], dtype: torch.dtype = HALF, images: int = 1) -> None:
        self.dtype, self.shape = dtype, (images, 64, *size)
        self.x = problem(64, 64, 3, *size, dtype=dtype, images=images)["x"]
        self.convs = []
        for i in range(blocks):
            self.convs.append(conv_of(10 * i, dtype, act="prelu", slope=numbers(64, seed=i)))
            # Every second one scales its sum, every third has an activation before it.
            act = {"act": "prelu", "slope": numbers(1, seed=i)} if i % 3 == 2 else {}
            self.convs.append(conv_of(10 * i + 5, dtype, gain=0.5 if i % 2 else 1.0, **act))
        self.convs.append(conv_of(999, dtype))

    def layers(self) -> list[Layer]:
        """The trunk's input is the last residual too; blocks overwrite their own input where that is another."""
        x, wide, middle, out = (canvas_of(t, self.dtype) for t in (self.x, *(self._noise(i) for i in range(3))))
        layers, source = [], x
        for _ in range(len(self.convs) // 2):
            layers += [Layer(source, middle), Layer(middle, wide, source)]
            source = wide
        return [*layers, Layer(source, out, x)]

    def _noise(self, seed: int) -> Tensor:
        """What lies in canvases before does not matter."""
        return numbers(*self.shape, seed=100 + seed)

    def apart(self) -> Canvas:
        layers = self.layers()
        for (conv, _), layer in zip(self.convs, layers, strict=True):
            hopper_launch(layer.source, conv, layer.out, layer.residual, form="wgmma_held")()
        return layers[-1].out

    def together(self, *, blocks: int, rows: int | None = None, runs: int = 1) -> Canvas:
        layers = self.layers()
        launch = trunk_launch(pack_trunk([conv for conv, _ in self.convs]), layers, blocks=blocks, rows=rows)
        for _ in range(runs):
            launch()
        return layers[-1].out

    def reference(self) -> Tensor:
        def made(conv: dict[str, object], x: Tensor, residual: Tensor | None) -> Tensor:
            return conv_reference(x, **conv, residual=residual).to(self.dtype).float()  # type: ignore[arg-type]

        x = self.x
        for i in range(len(self.convs) // 2):
            x = made(self.convs[2 * i + 1][1], made(self.convs[2 * i][1], x, None), x)
        return made(self.convs[-1][1], x, self.x)


@pytest.mark.parametrize(
    ("size", "images", "dtype", "residual_blocks", "blocks", "rows"),
    [
        ((1, 1), 1, HALF, 1, 1, None),
        ((1, 1), 1, BRAIN, 3, 4, None),
        ((1, 130), 2, HALF, 2, 3, None),
        ((7, 1), 1, HALF, 2, 2, 3),
        ((5, 67), 1, BRAIN, 2, 3, 2),
        ((5, 67), 1, HALF, 3, 6, 1),
        ((9, 65), 2, HALF, 1, 1, None),
        ((6, 64), 3, BRAIN, 2, 2, 2),
        ((4, 129), 1, HALF, 2, 6, 2),
    ],
)
def test_bits_of_separate_launches(
    size: tuple[int, int], images: int, dtype: torch.dtype, residual_blocks: int, blocks: int, rows: int | None
) -> None:
    """One pixel, one row, one column; strips that end at and beside the image's border, alone or several to a block."""
    trunk = Residuals(residual_blocks, size, dtype, images)
    out = trunk.together(blocks=blocks, rows=rows)
    assert torch.equal(out.nchw(), trunk.apart().nchw())
    eps = 2.0**-8 if dtype == HALF else 2.0**-5
    torch.testing.assert_close(out.nchw().float(), trunk.reference(), rtol=eps, atol=eps)


def test_runs_again() -> None:
    """Counters go on from where the run before left them."""
    trunk = Residuals(2, (4, 66))
    assert torch.equal(trunk.together(blocks=4, rows=2, runs=3).nchw(), trunk.apart().nchw())


def test_plain_chains() -> None:
    """Convolutions with PReLUs and with nothing behind them, no residual: two canvases in turn, nothing written beside them."""
    prelus = [{"act": "prelu", "slope": numbers(64, seed=seed)} if seed % 2 else {} for seed in range(4)]
    made = [conv_of(seed, HALF, **prelu) for seed, prelu in enumerate(prelus)]
    x, results = problem(64, 64, 3, 3, 66)["x"], []
    for together in (False, True):
        canvases = [Canvas.allocate(1, 64, 3, 66, border=2) for _ in range(2)]
        canvases[0].nchw().copy_(x)
        layers = [Layer(canvases[i % 2], canvases[1 - i % 2]) for i in range(4)]
        if together:
            trunk_launch(pack_trunk([conv for conv, _ in made]), layers, blocks=3, rows=1)()
        else:
            for (conv, _), layer in zip(made, layers, strict=True):
                hopper_launch(layer.source, conv, layer.out, form="wgmma_held")()
        results.append(canvases)
    assert all(torch.equal(a.data, b.data) for a, b in zip(*results, strict=True))
    assert not results[1][0].data[0, :2].any() and not results[1][0].data[0, :, :2].any()


def test_others_are_refused() -> None:
    conv, given = conv_of(0, HALF)
    x, out = (canvas_of(torch.zeros(1, 64, 3, 3)) for _ in range(2))
    trunk = pack_trunk([conv])
    with pytest.raises(ValueError, match="cannot write to the canvas that it reads"):
        trunk_launch(trunk, [Layer(x, x)])
    with pytest.raises(ValueError, match="1 convolutions of a trunk need as many layers, not 2"):
        trunk_launch(trunk, [Layer(x, out), Layer(out, x)])
    with pytest.raises(ValueError, match="the output canvas is"):
        trunk_launch(trunk, [Layer(x, canvas_of(torch.zeros(1, 64, 3, 4)))])
    with pytest.raises(ValueError, match="the same strides"):
        trunk_launch(trunk, [Layer(x, Canvas.allocate(1, 64, 3, 3, border=1))])
    with pytest.raises(ValueError, match="a gain before a residual only"):
        trunk_launch(pack_trunk([replace(conv, gain=0.5)]), [Layer(x, out)])
    with pytest.raises(ValueError, match="ends in a PReLU or in nothing"):
        trunk_launch(pack_trunk([pack_conv(given["weight"], given["bias"], act="tanh")]), [Layer(x, out)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"1 to {MOST_LAYERS} convolutions, not {MOST_LAYERS + 1}"):
        pack_trunk([conv] * (MOST_LAYERS + 1))
    many = [canvas_of(torch.zeros(1, 64, 3, 3)) for _ in range(9)]
    with pytest.raises(ValueError, match="at most 8 canvases"):
        trunk_launch(pack_trunk([conv] * 8), [Layer(many[i], many[i + 1]) for i in range(8)])
    thin = pack_conv(given["weight"][:, :32], given["bias"])  # type: ignore[index]
    with pytest.raises(ValueError, match="3x3 convolutions of 64 channels"):
        pack_trunk([thin])
