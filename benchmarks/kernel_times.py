"""Every convolution of the networks in every CUDA kernel and in Triton, right ones only, and which is the fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.configs import conv_key, device_names, pair_key
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.hopper import FORMS as HOPPER
from srfast.kernels.cuda.hopper import hopper_fits, hopper_launch
from srfast.kernels.cuda.pack import CudaConv, Variant, choose_variant, pack_conv
from srfast.kernels.cuda.pair import FORMS as PAIRS
from srfast.kernels.cuda.pair import pair_launch
from srfast.kernels.cuda.tail import FORMS as TAILS
from srfast.kernels.cuda.tail import pack_tail, tail_launch
from srfast.kernels.reference import conv_reference

# Channels, outputs, kernel, shuffle, pixels per input pixel along a side.
SHAPES = (
    (3, 64, 9, 1, 1),
    (64, 64, 3, 1, 1),
    (64, 256, 3, 2, 1),
    (256, 12, 5, 2, 2),
    (3, 64, 3, 1, 1),
    (64, 48, 3, 4, 1),
)
HALF = torch.float16
TOLERANCE = 4e-3


def milliseconds(run: Callable[[], Any], repeats: int = 30) -> float:
    """Median of ``repeats`` runs after a warm-up, by CUDA events."""
    for _ in range(3):
        run()
    times: list[float] = []
    for _ in range(repeats):
        event: Any = torch.cuda.Event
        start, end = event(enable_timing=True), event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


class Problem:
    """A convolution with random weights on a random image of [height, width] pixels."""

    def __init__(self, channels: int, out: int, kernel: int, shuffle: int, height: int, width: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.shape, self.shuffle = (channels, out, kernel), shuffle
        self.flops = 2.0 * channels * out * kernel**2 * height * width
        self.weight = torch.randn(out, channels, kernel, kernel, generator=generator) * (channels * kernel**2) ** -0.5
        self.bias, self.slope = torch.randn(out, generator=generator), torch.rand(out, generator=generator)
        self.x = torch.randn(1, channels, height, width, generator=generator).half().cuda()
        self.canvas = Canvas.allocate(1, channels, height, width, device="cuda")
        self.canvas.nchw().copy_(self.x)
        self.out = Canvas.allocate(1, out // shuffle**2, height * shuffle, width * shuffle, device="cuda")

    def packed(self, variant: Variant | None = None) -> CudaConv:
        return pack_conv(
            self.weight, self.bias, act="prelu", slope=self.slope, shuffle=self.shuffle, variant=variant, device="cuda"
        )

    def expected(self) -> Tensor:
        weight, bias = self.weight.half().float().cuda(), self.bias.cuda()
        with torch.backends.cudnn.flags(allow_tf32=False):
            return conv_reference(
                self.x.float(), weight, bias, act="prelu", slope=self.slope.cuda(), shuffle=self.shuffle
            )

    def error(self, launch: cuda.Launch) -> float:
        """Largest error as a fraction of the largest value; also where nothing was written."""
        self.out.data.fill_(float("nan"))
        launch()
        expected = self.expected()
        return float(((self.out.nchw().float() - expected).abs().max() / expected.abs().max()).nan_to_num(nan=1e9))

    def forms(self) -> list[str]:
        """Every CUDA kernel that runs it."""
        found = ["mma"]
        if choose_variant(*self.shape) == Variant(64, 64, 3):
            found.append("mma_large")
            found += HOPPER if hopper_fits(self.canvas, self.packed()) is None else []
        return found

    def launch(self, form: str, x: Canvas, out: Canvas, residual: Canvas | None = None) -> cuda.Launch:
        """The convolution in one of the forms, from and to any canvas of its size."""
        if form in HOPPER:
            return hopper_launch(x, self.packed(), out, residual, form=form)
        return conv_launch(x, self.packed(Variant(64, 64, 3, 16, 16) if form == "mma_large" else None), out, residual)

    def launches(self) -> dict[str, cuda.Launch]:
        """Every CUDA kernel that runs it."""
        return {form: self.launch(form, self.canvas, self.out) for form in self.forms()}

    def triton(self) -> cuda.Launch | None:
        """The Triton kernel in its shipped configuration, if Triton is there."""
        try:
            from srfast.kernels.packing import pack_conv as pack
            from srfast.kernels.triton import conv as triton_conv_launch
            from srfast.kernels.triton.config import find_config
        except ImportError:
            return None
        config = find_config(device_names(self.x.device), conv_key(*self.shape))
        packed = pack(
            self.weight,
            self.bias,
            act="prelu",
            slope=self.slope,
            shuffle=self.shuffle,
            block_o=config.block_o,
            device="cuda",
        )
        height, width = self.x.shape[2:]
        half = self.shape[2] // 2
        source = Canvas.allocate(1, self.shape[0], height, width, border=half, tile=config.tile, device="cuda")
        source.nchw().copy_(self.x)
        return triton_conv_launch.conv_launch(source, packed, self.out, config)


def kernels(height: int, width: int) -> list[dict[str, Any]]:
    """Every shape in every kernel that is right; two convolutions in one launch against the fastest two launches."""
    rows = []
    for channels, out, kernel, shuffle, scale in SHAPES:
        problem = Problem(channels, out, kernel, shuffle, height * scale, width * scale)
        launches = {n: launch for n, launch in problem.launches().items() if problem.error(launch) <= TOLERANCE}
        triton = problem.triton()
        if triton is not None:
            launches["triton"] = triton
        times = {name: milliseconds(launch) for name, launch in launches.items()}
        key = conv_key(channels, out, kernel)
        rows.append({"key": key, "flops": problem.flops, "ms": times})
    return [*rows, _pair(height, width), _tail(2 * height, 2 * width)]


def in_turn(first: cuda.Launch, second: cuda.Launch) -> cuda.Launch:
    def run() -> None:
        first()
        second()

    return run


def _fused(
    key: str, flops: float, out: Tensor, apart: list[cuda.Launch], forms: Mapping[str, Callable[[], cuda.Launch]]
) -> dict[str, Any]:
    """Times of two launches, the fastest of ``apart``, and of every form in one launch that gives their result in ``out``."""
    if not apart:  # no single kernel is right: there is nothing to compare with
        return {"key": key, "flops": flops, "ms": {}}
    apart[0]()
    expected, right = out.float().clone(), []
    for name, build in forms.items():
        out.fill_(float("nan"))
        try:
            fused = build()
        except ValueError as error:
            print(f"{name}: {error}")
            continue
        fused()
        if float((out.float() - expected).abs().max().nan_to_num(nan=1e9)) <= TOLERANCE * float(expected.abs().max()):
            right.append((name, fused))
        else:
            print(f"{name}: wrong")
    times = {name: milliseconds(fused) for name, fused in right}
    return {"key": key, "flops": flops, "ms": {"two launches": min(map(milliseconds, apart)), **times}}


def _pair(height: int, width: int) -> dict[str, Any]:
    problem = Problem(64, 64, 3, 1, height, width)
    packed, x, out = problem.packed(), problem.canvas, problem.out
    middle = Canvas.allocate(1, 64, height, width, device="cuda")

    right = [form for form, launch in problem.launches().items() if problem.error(launch) <= TOLERANCE]
    apart = [in_turn(problem.launch(form, x, middle), problem.launch(form, middle, out, x)) for form in right]
    forms = {form: partial(pair_launch, x, packed, packed, out, x, form=form) for form in PAIRS}
    return _fused(pair_key(64, 3, 64, 3, 64), 2 * problem.flops, out.nchw(), apart, forms)


def _tail(height: int, width: int) -> dict[str, Any]:
    """The tail of the networks that enlarge fourfold, at the size where its last convolution runs."""
    problem, few = Problem(64, 256, 3, 1, height, width), Problem(256, 12, 5, 2, height, width)
    first, second = problem.packed(), pack_conv(few.weight, few.bias, shuffle=2, device="cuda")
    last = conv_launch(problem.out, second, few.out)
    tail = pack_tail(first, second, few.weight)

    apart = [in_turn(launch, last) for launch in problem.launches().values() if problem.error(launch) <= TOLERANCE]
    forms = {form: partial(tail_launch, problem.canvas, tail, few.out, form=form) for form in TAILS}
    return _fused(pair_key(64, 3, 256, 5, 12), problem.flops + few.flops, few.out.nchw(), apart, forms)


def decisions(rows: list[dict[str, Any]], early: bool) -> dict[str, dict[str, Any]]:
    """The fastest right CUDA kernel of each shape, as ``cuda_configs.json`` has it."""
    chosen = {}
    for row in rows:
        times = dict(row["ms"])
        apart = times.pop("two launches", None)
        if apart is not None:
            if times:
                best = min(times, key=times.__getitem__)
                chosen[row["key"]] = {"kernel": best, "early": early, "speedup": round(apart / times[best], 3)}
            continue
        triton = times.pop("triton", None)
        if times:
            best = min(times, key=times.__getitem__)
            speedup = round(triton / times[best], 3) if triton else 0.0
            chosen[row["key"]] = {"kernel": best, "early": early, "speedup": speedup}
    return chosen


def table(rows: list[dict[str, Any]], chosen: dict[str, dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        lines.append(f"{row['key']}: {chosen.get(row['key'], 'no right kernel')}")
        lines += [f"    {n:14s} {t:8.4f} ms {row['flops'] / t / 1e9:7.1f} TFLOP/s" for n, t in row["ms"].items()]
    return "\n".join(lines)
