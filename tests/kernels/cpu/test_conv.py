"""The compiled kernels against plain torch in float64, on every instruction set of this CPU."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from srfast.kernels import cpu
from srfast.kernels.reference import conv_reference

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))

# White of each type of integers, as a multiple of the network's 255.
INTEGERS = {torch.uint8: 1, torch.uint16: 257}
SIZES = [(1, 1), (1, 9), (2, 3), (5, 4), (7, 13), (17, 31), (9, 145)]


def _network(
    isa: str, x: Tensor, weight: Tensor, bias: Tensor, *, algorithm: str, residual: Tensor | None = None, **options
):
    """One convolution of x [H, W, C] (and a residual), as a network ready to run, and its output."""
    network = cpu.Network(isa)
    height, width, channels = x.shape
    r = options.get("shuffle", 1)
    source = network.activation(channels, input=True)
    scales, inputs = [1], [x]
    if residual is not None:
        options["residual"] = network.activation(residual.shape[2], input=True)
        scales.append(residual.shape[0] // height)
        options["residual_factor"] = r // scales[-1]
        inputs.append(residual)
    target = network.activation(weight.shape[0] // r**2, output=True)
    scales.append(r)
    network.conv(source, target, weight, bias, algorithm=algorithm, **options)
    steps = [(-1 - i, 0, t.shape[0]) for i, t in enumerate(inputs)] + [(0, 0, height)]
    network.layout(height, width, scales=scales, steps=steps)
    return network, inputs, torch.full((height * r, width * r, weight.shape[0] // r**2), float("nan"))


def _run(
    isa: str, x: Tensor, weight: Tensor, bias: Tensor, *, threads: int = 2, dtype=torch.float32, **options
) -> Tensor:
    network, inputs, out = _network(isa, x, weight, bias, **options)
    out = out.nan_to_num(0).to(dtype)
    network.run(inputs, [out], threads)
    return out


def _case(
    channels: int, outputs: int, kernel: int, size: tuple[int, int], seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*size, channels, generator=generator)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=generator) / (channels * kernel**2) ** 0.5
    return x, weight, torch.randn(outputs, generator=generator)


ACTS = ["none", "prelu", "prelu of each", "tanh", "sigmoid", "silu", "gelu", "mish"]


def _activation(act: str, outputs: int) -> dict[str, Any]:
    """The options of one of ``ACTS``."""
    if not act.startswith("prelu"):
        return {"act": act}
    slopes = outputs if act == "prelu of each" else 1
    return {"act": "prelu", "slope": torch.randn(slopes, generator=torch.Generator().manual_seed(1))}


def _error(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None = None, **options) -> float:
    """Largest difference from float64; outputs have unit variance."""
    r, factor = options.get("shuffle", 1), 1
    if residual is not None:
        factor = x.shape[0] * r // residual.shape[0]
        residual = residual.double().repeat_interleave(factor, 0).repeat_interleave(factor, 1).permute(2, 0, 1)[None]
    if "slope" in options:
        options["slope"] = options["slope"].double()
    image = x.double().permute(2, 0, 1)[None]
    expected = conv_reference(image, weight.double(), bias.double(), residual=residual, **options)
    return float((y.double() - expected[0].permute(1, 2, 0)).abs().max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "algorithm"),
    [
        (64, 64, 3, "winograd"),
        (64, 64, 3, "direct"),
        (16, 48, 3, "winograd"),
        (80, 96, 3, "winograd"),  # two chunks, a group and a half
        (144, 20, 3, "winograd"),
        (64, 3, 3, "winograd"),  # along the rows only
        (80, 4, 3, "winograd"),
        (16, 1, 3, "winograd"),
        (64, 12, 5, "winograd"),
        (80, 72, 5, "winograd"),
        (16, 1, 9, "winograd"),
        (64, 3, 9, "winograd"),
        (80, 2, 9, "winograd"),
        (16, 16, 17, "fourier"),
        (16, 3, 7, "fourier"),
        (32, 32, 13, "fourier"),
        (32, 5, 25, "fourier"),
        (3, 64, 9, "direct"),
        (1, 7, 1, "direct"),
        (5, 3, 7, "direct"),
    ],
)
def test_sums(isa: str, channels: int, outputs: int, kernel: int, algorithm: str, size: tuple[int, int]) -> None:
    case = _case(channels, outputs, kernel, size)
    # Rounding of a direct float32 convolution reaches 1e-5 here, and that of the transforms about twice as much.
    assert _error(_run(isa, *case, algorithm=algorithm), *case) < 3e-5


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize(
    ("algorithm", "outputs", "shuffle"),
    [
        *(("winograd", *case) for case in [(64, 1), (256, 2), (12, 2), (48, 4), (27, 3), (4, 2), (3, 1)]),
        *(("direct", *case) for case in [(64, 1), (256, 2), (12, 2), (48, 4), (27, 3)]),
        *(("fourier", *case) for case in [(32, 1), (12, 2), (32, 4), (27, 3)]),
    ],
)
@pytest.mark.parametrize("act", ACTS)
def test_epilogue(isa: str, algorithm: str, outputs: int, shuffle: int, act: str) -> None:
    x, weight, bias = _case(32, outputs, 3, (6, 11))
    options = {"shuffle": shuffle, **_activation(act, outputs)}
    base = torch.randn(6 * shuffle, 11 * shuffle, outputs // shuffle**2, generator=torch.Generator().manual_seed(2))
    variants = itertools.product((1.0, -0.3), (None, base, base[:6, :11]), (None, (-0.5, 0.75)))
    for gain, residual, clamp in variants:
        given = {**options, "gain": gain, "residual": residual, "clamp": clamp}
        residual = None if residual is None else residual.contiguous()
        y = _run(isa, x, weight, bias, algorithm=algorithm, **{**given, "residual": residual})
        assert _error(y, x, weight, bias, **{**given, "residual": residual}) < 3e-5, (gain, residual is None, clamp)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("act", ACTS)
def test_epilogue_of_9x9_kernels(isa: str, outputs: int, act: str) -> None:
    x, weight, bias = _case(32, outputs, 9, (6, 11))
    activation = _activation(act, outputs)
    residual = torch.randn(6, 11, outputs, generator=torch.Generator().manual_seed(2))
    for gain, add, clamp in itertools.product((1.0, -0.3), (None, residual), (None, (-0.5, 0.75))):
        options = {**activation, "gain": gain, "residual": add, "clamp": clamp}
        y = _run(isa, x, weight, bias, algorithm="winograd", **options)
        assert _error(y, x, weight, bias, **options) < 3e-5, (gain, add is None, clamp)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 23), (7, 48)])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_of_9x9_kernels_are_its_values_rounded(isa: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    x, weight, bias = _case(16, 3, 9, size)
    weight, bias = weight * 90, bias * 60 + 127
    values = _run(isa, x, weight, bias, algorithm="winograd")
    network, inputs, _ = _network(isa, x, weight, bias, algorithm="winograd")
    guarded = torch.full((*size, 3), 7, dtype=dtype)
    assert network.run(inputs, [guarded], 2)
    assert torch.equal(guarded.int(), (values * INTEGERS[dtype]).round().clamp(0, 255 * INTEGERS[dtype]).int())
    for value in (float("nan"), float("inf")):
        x[-1, -1, 0] = value
        assert not network.run([x], [guarded], 2)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
def test_bytes_are_rounded_to_even_and_saturated(isa: str) -> None:
    x = torch.tensor([-3.0, 0.49, 0.5, 1.5, 2.5, 254.5, 255.4, 300.0, 1e30]).view(1, -1, 1)
    y = _run(isa, x, torch.ones(1, 1, 1, 1), torch.zeros(1), algorithm="direct", dtype=torch.uint8)
    assert y.flatten().tolist() == [0, 0, 0, 2, 2, 254, 255, 255, 255]
    again = _run(isa, y, torch.ones(1, 1, 1, 1), torch.zeros(1), algorithm="direct")
    assert torch.equal(again, y.float())


@pytest.mark.parametrize("isa", cpu.instruction_sets())
def test_words_are_rounded_to_even_and_saturated(isa: str) -> None:
    """In 257ths, as white is 255 for 16 bits too; and all of them come back."""
    x = torch.tensor([-3.0, 0.49, 0.5, 1.5, 2.5, 257.0, 65534.5, 65535.4, 1e30]).view(1, -1, 1) / 257
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1)
    y = _run(isa, x, one, none, algorithm="direct", dtype=torch.uint16)
    assert y.flatten().tolist() == [0, 0, 0, 2, 2, 257, 65534, 65535, 65535]
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(64, 1024, 1)
    assert torch.equal(_run(isa, every, one, none, algorithm="direct"), every.float() * (255.0 / 65535.0))
    assert torch.equal(_run(isa, every, one, none, algorithm="direct", dtype=torch.uint16).int(), every.int())


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "algorithm"),
    [
        (64, 64, 3, "winograd"),
        (64, 80, 3, "winograd"),
        (64, 3, 3, "winograd"),
        (80, 12, 5, "winograd"),
        (64, 3, 9, "winograd"),
        (16, 17, 17, "fourier"),
        (3, 40, 9, "direct"),
    ],
)
def test_results_do_not_depend_on_threads(isa: str, channels: int, outputs: int, kernel: int, algorithm: str) -> None:
    case = _case(channels, outputs, kernel, (29, 43))
    one = _run(isa, *case, algorithm=algorithm, threads=1)
    for threads in (2, 3, 7):
        assert torch.equal(_run(isa, *case, algorithm=algorithm, threads=threads), one)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize(("channels", "outputs"), [(64, 64), (80, 96), (144, 20)])
def test_results_do_not_depend_on_the_caches(
    isa: str, channels: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only how many tiles are computed together: 224 here, in blocks of 12 to 24."""
    case = _case(channels, outputs, 3, (53, 61))
    results = []
    for second in (1, 256 << 10, 512 << 10, 1 << 20, 1 << 30):
        monkeypatch.setattr(cpu, "caches", lambda second=second: (second, 32 << 20))
        results.append(_run(isa, *case, algorithm="winograd"))
    assert _error(results[0], *case) < 3e-5
    assert all(torch.equal(result, results[0]) for result in results)


def test_caches_are_those_of_a_processor() -> None:
    second, last = cpu.caches()
    assert 64 << 10 <= second <= last <= 8 << 30


@pytest.mark.parametrize("isa", cpu.instruction_sets())
def test_non_finite_values_stay_visible(isa: str) -> None:
    x, weight, bias = _case(16, 16, 3, (8, 8))
    x[3, 3, 5] = float("nan")
    for algorithm in ("winograd", "fourier", "direct"):
        for options in ({}, _activation("prelu of each", 16), {"act": "silu"}, {"clamp": (-1.0, 1.0)}):
            assert _run(isa, x, weight, bias, algorithm=algorithm, **options)[3, 3].isnan().all()


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize(
    ("algorithm", "kernel", "parts"),
    [
        ("winograd", 3, (64, 32, 32)),
        ("winograd", 3, (48, 16, 96)),
        ("winograd", 5, (32, 64)),
        ("direct", 1, (16, 5)),
        ("fourier", 17, (16, 16)),
        ("direct", 1, (48, 48, 48, 48)),
        ("direct", 3, (64, 32, 32)),
        ("direct", 5, (3, 17, 1)),
    ],
)
def test_several_inputs_are_read_in_a_row(isa: str, algorithm: str, kernel: int, parts: tuple[int, ...]) -> None:
    x, weight, bias = _case(sum(parts), 32, kernel, (7, 13))
    network = cpu.Network(isa)
    sources = [network.activation(n, input=True) for n in parts]
    target = network.activation(32, output=True)
    network.conv(sources, target, weight, bias, algorithm=algorithm)
    cuts = [(0, 0, 7)] if algorithm == "fourier" else [(0, 0, 4), (0, 4, 7)]  # its tiles have 16 rows
    steps = [(-1 - i, 0, 7) for i in range(len(parts))] + cuts
    network.layout(7, 13, scales=[1] * (len(parts) + 1), steps=steps)
    out = torch.zeros(7, 13, 32)
    network.run([part.contiguous() for part in x.split(parts, 2)], [out], 2)
    assert _error(out, x, weight, bias) < 3e-5
    assert torch.equal(out, _run(isa, x, weight, bias, algorithm=algorithm))


def _strided(isa: str, parts: list[Tensor], weight: Tensor, bias: Tensor, offset: int, lowp=None, **options) -> Tensor:
    """A convolution with the stride of its kernel, of images that lie one after another, in steps of two rows."""
    network, stride, r = cpu.Network(isa), weight.shape[2], options.get("shuffle", 1)
    sources = [network.activation(part.shape[2], input=True) for part in parts]
    height, width = (side // stride for side in parts[0].shape[:2])
    target = network.activation(weight.shape[0] // r**2, output=True)
    network.conv(sources, target, weight, bias, stride=stride, offset=offset, lowp=lowp, **options)
    steps = [(-1 - i, 0, height * stride) for i in range(len(parts))]
    steps += [(0, y, min(y + 2, height)) for y in range(0, height, 2)]
    network.layout(height, width, scales=[stride] * len(parts) + [r], steps=steps)
    out = torch.full((height * r, width * r, weight.shape[0] // r**2), float("nan"))
    assert network.run(parts, [out], 2)
    return out


def _strided_sums(x: Tensor, weight: Tensor, bias: Tensor, offset: int) -> Tensor:
    """The same in float64 by PyTorch, with zeros beyond the image."""
    stride = weight.shape[2]
    image = torch.nn.functional.pad(x.double().permute(2, 0, 1), [stride] * 4)[:, stride + offset :, stride + offset :]
    height, width = (side // stride for side in x.shape[:2])
    sums = torch.nn.functional.conv2d(image[None], weight.double(), bias.double(), stride)
    return sums[0, :, :height, :width].permute(1, 2, 0)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 30)])
@pytest.mark.parametrize(
    ("parts", "outputs", "stride", "offset"),
    [((64,), 64, 2, 0), ((32,), 40, 2, -1), ((5,), 7, 2, 1), ((16, 3), 20, 3, -2), ((16,), 100, 4, 3)],
)
def test_a_stride_reads_squares_side_by_side(
    isa: str, parts: tuple[int, ...], outputs: int, stride: int, offset: int, size: tuple[int, int]
) -> None:
    x, weight, bias = _case(sum(parts), outputs, stride, (size[0] * stride, size[1] * stride))
    y = _strided(isa, list(x.split(parts, 2)), weight, bias, offset)
    assert (y - _strided_sums(x, weight, bias, offset)).abs().max() < 3e-5


@pytest.mark.parametrize("isa", [isa for isa in cpu.lowp_sets() if "int8" not in isa and isa != "vnni"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 70)])
@pytest.mark.parametrize(
    ("parts", "outputs", "stride", "offset"), [((64,), 64, 2, 0), ((32, 64), 48, 2, -1), ((32,), 20, 3, 2)]
)
def test_a_stride_in_bfloat16(
    isa: str, parts: tuple[int, ...], outputs: int, stride: int, offset: int, size: tuple[int, int]
) -> None:
    x, weight, bias = _case(sum(parts), outputs, stride, (size[0] * stride, size[1] * stride))
    y = _strided(isa, list(x.split(parts, 2)), weight, bias, offset, cpu.LowPrecision())
    assert (y - _strided_sums(x.bfloat16(), weight.bfloat16(), bias, offset)).abs().max() < 3e-5


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize(("kernel", "rows"), [(3, 4), (3, 8), (5, 4), (5, 8), (5, 12), (9, 3), (9, 6), (9, 12)])
def test_unfinished_sums_go_on_in_the_next_step(isa: str, kernel: int, rows: int) -> None:
    case = _case(16, 12 if kernel == 5 else 3, kernel, (21, 30))
    whole = _run(isa, *case, algorithm="winograd")
    network, inputs, out = _network(isa, *case, algorithm="winograd")
    steps = [(-1, 0, 21)] + [(0, y, min(y + rows, 21)) for y in range(0, 21, rows)]
    network.layout(21, 30, scales=[1, 1], steps=steps)
    for threads in (1, 2, 2, 5):  # again: nothing is left over from the run before
        network.run(inputs, [out], threads)
        assert torch.equal(out, whole)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("rows", [16, 32])
def test_fourier_tiles_are_computed_by_themselves(isa: str, rows: int) -> None:
    """Each step as much as all at once, and a window that begins at a tile: bit for bit."""
    x, weight, bias = _case(16, 16, 17, (50, 75))
    whole = _run(isa, x, weight, bias, algorithm="fourier")
    network, inputs, out = _network(isa, x, weight, bias, algorithm="fourier")
    steps = [(-1, 0, 50)] + [(0, y, min(y + rows, 50)) for y in range(0, 50, rows)]
    network.layout(50, 75, scales=[1, 1], steps=steps)
    for threads in (1, 3):
        network.run(inputs, [out], threads)
        assert torch.equal(out, whole)
    window = _run(isa, x[16:, 32:].contiguous(), weight, bias, algorithm="fourier")
    assert torch.equal(window[16:, 16:], whole[32:, 48:])


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_that_stand_for_no_number_are_reported(isa: str, value: float, dtype: torch.dtype) -> None:
    x = torch.full((3, 40, 1), 300.0)
    network, _, _ = _network(isa, x, torch.ones(1, 1, 1, 1), torch.zeros(1), algorithm="direct")
    out = torch.zeros(3, 40, 1, dtype=dtype)
    assert network.run([x], [out], 2)
    x[2, 17] = value
    assert not network.run([x], [out], 2)


@pytest.mark.parametrize("dtype", [torch.float32, *INTEGERS])
def test_inputs_may_lie_in_any_order(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 256, (7, 9, 5)).to(dtype)
    values = x.float() / INTEGERS.get(dtype, 1)
    network, _, out = _network(
        cpu.instruction_sets()[0], values, torch.randn(6, 5, 3, 3), torch.randn(6), algorithm="direct"
    )
    network.run([x], [out], 2)
    expected = out.clone()
    window = torch.zeros(12, 11, 8, dtype=dtype)
    window[3:10, 1:10, 2:7] = x
    planes = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    for again in (planes, x.transpose(0, 1).contiguous().transpose(0, 1), window[3:10, 1:10, 2:7]):
        network.run([again], [out.zero_()], 2)
        assert torch.equal(out, expected)
    backwards, turned = [4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0]  # PyTorch turns no uint16 round by ``flip``
    for again in (
        x[..., backwards],
        planes[..., backwards].permute(2, 0, 1).contiguous().permute(1, 2, 0),
        x[..., :1].expand_as(x),
    ):
        network.run([again[..., backwards]], [expected], 2)
        network.run([again], [out.zero_()], 2, reverse=True)
        assert torch.equal(out, expected[..., turned])


def test_wrong_tensors_are_refused() -> None:
    x, weight, bias = _case(16, 16, 3, (5, 6))
    network, inputs, out = _network(cpu.instruction_sets()[0], x, weight, bias, algorithm="winograd")
    with pytest.raises(ValueError, match=r"is \[5, 6, 16\] on the CPU, not \[6, 5, 16\]"):
        network.run([x.transpose(0, 1)], [out], 1)
    with pytest.raises(ValueError, match="contiguous"):
        network.run(inputs, [out.transpose(0, 1).contiguous().transpose(0, 1)], 1)
    with pytest.raises(ValueError, match="float32, uint8, uint16"):
        network.run([x.double()], [out], 1)
    with pytest.raises(ValueError, match=r"is \[5, 6, 16\] on the CPU, not \[4, 6, 16\]"):
        network.run(inputs, [out[:-1]], 1)
    with pytest.raises(ValueError):
        network.run(inputs, [], 1)
    with pytest.raises(ValueError, match=r"^slope: .*1 or 16 values, not 3"):
        network.conv(0, 1, weight, bias, act="prelu", slope=torch.rand(3))
    with pytest.raises(ValueError, match=r"^slope: only a prelu has slopes, not 16"):
        network.conv(0, 1, weight, bias, act="silu", slope=torch.rand(16))
    with pytest.raises(ValueError, match=r"^act: 'swish' is none of prelu, tanh"):
        network.conv(0, 1, weight, bias, act="swish")
    with pytest.raises(ValueError, match=r"^algorithm: no Winograd kernel for 7x7 on 16"):
        network.conv(0, 1, torch.rand(16, 16, 7, 7), bias, algorithm="winograd")
    with pytest.raises(ValueError, match=r"^algorithm: no Fourier kernel for 33x33 on 16"):
        network.conv(0, 1, torch.rand(16, 16, 33, 33), bias, algorithm="fourier")
    with pytest.raises(ValueError, match=r"^algorithm: 'fft' is none of direct"):
        network.conv(0, 1, weight, bias, algorithm="fft")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([(-1, 0, 5), (0, 0, 4)], "not written to its end"),
        ([(0, 0, 5), (-1, 0, 5)], "not in memory"),
        ([(-1, 0, 5), (0, 0, 3), (0, 3, 5)], "cuts a tile"),
        ([(-1, 0, 5), (0, 0, 4), (0, 0, 5)], "follow each other"),
        ([(-1, 0, 5), (1, 0, 5)], "names no layer"),
    ],
)
def test_wrong_schedules_are_refused(steps: list[tuple[int, int, int]], message: str) -> None:
    network, _, _ = _network(cpu.instruction_sets()[0], *_case(16, 16, 3, (5, 6)), algorithm="winograd")
    with pytest.raises(ValueError, match=message):
        network.layout(5, 6, scales=[1, 1], steps=steps)
    with pytest.raises(ValueError, match="needs a scale"):
        network.layout(5, 6, scales=[1], steps=[(-1, 0, 5), (0, 0, 5)])
