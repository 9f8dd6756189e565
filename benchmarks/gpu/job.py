"""Measures one kernel or one network: is it right, how fast is it. Each runs in a process of its own.

python -m benchmarks.gpu.job '{"kind": "conv", "what": "wgmma_held", "width": 960, "height": 540}'
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.contenders import backend_run, eager_run
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.jobs import APART, TRITON, Job
from benchmarks.gpu.problem import SHAPES, Problem, difference, in_turn
from benchmarks.gpu.turns import Link
from benchmarks.subjects import Subject, by_name
from srfast.kernels import cuda, gluon
from srfast.kernels.buffers import Canvas
from srfast.kernels.configs import conv_key, device_names, pair_key, trunk_key
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.conv_int8 import ByteCanvas, conv_int8_launch, pack_int8, quantize_launch
from srfast.kernels.cuda.hopper import block_count, hopper_launch, strip_rows
from srfast.kernels.cuda.launch import current_stream
from srfast.kernels.cuda.pack import CudaConv, pack_conv
from srfast.kernels.cuda.pair import pair_launch
from srfast.kernels.cuda.tail import pack_tail, tail_launch
from srfast.kernels.cuda.trunk import Layer, pack_trunk, trunk_launch
from srfast.kernels.int8 import LowPrecision, int8_reference, quantize_reference
from srfast.kernels.triton.config import Config, find_config
from srfast.models import SRVGGNetCompact

REPOSITORY = Path(__file__).parents[2]
TRUNK_BLOCKS = 16  # of two convolutions: SRResNet's
NETWORK_TOLERANCE = 5e-2


def device(job: Job, bench: Bench) -> None:
    """Tells what GPU this is, and whether a process like this one can use it at all."""
    if not bench.dry:
        properties = torch.cuda.get_device_properties(bench.device)
        bench.report({"gpu": properties.name, "multiprocessors": properties.multi_processor_count})
    torch.ones(8, device=bench.device).sum().item()
    bench.report({"module": cuda.unavailable_reason() or f"built for {' '.join(cuda.architectures())}"})


def conv(job: Job, bench: Bench) -> None:
    """Measures a compiled CUDA convolution."""
    problem = Problem(SHAPES[job.shape], job.height, job.width, bench.device)
    bench.report({"key": conv_key(*problem.shape)})
    residual = problem.canvas if job.residual else None
    launch = problem.launch(job.what, problem.canvas, problem.out, residual)
    bench.compile(launch)
    if bench.right(partial(problem.error, launch, job.residual)):
        bench.report(bench.time(launch, problem.flops))


def triton(job: Job, bench: Bench) -> None:
    """Measures a convolution in Triton or Gluon."""
    problem = Problem(SHAPES[job.shape], job.height, job.width, bench.device)
    key = conv_key(*problem.shape)
    config = Config(**TRITON[job.what]) if job.what != "shipped" else find_config(device_names(bench.device), key)
    bench.report({"key": key, "config": asdict(config)})
    if config.gluon and (reason := gluon.unavailable_reason()):
        raise RuntimeError(reason)
    if config.gluon and bench.dry:
        bench.report({"rehearsed": "not, Gluon cannot be interpreted"})
        return
    launch = problem.triton(config, job.residual)
    bench.compile(launch)
    if bench.right(partial(problem.error, launch, job.residual)):
        bench.report(bench.time(launch, problem.flops))


def library(job: Job, bench: Bench) -> None:
    """Measures the same convolution in cuDNN: alone, with what it can fuse, and as eager PyTorch runs it."""
    problem = Problem(SHAPES[job.shape], job.height, job.width, bench.device)
    torch.backends.cudnn.benchmark = True
    form = torch.channels_last
    x = problem.x.contiguous(memory_format=form)
    weight = problem.weight.half().to(bench.device).contiguous(memory_format=form)
    bias, slope = problem.bias.half().to(bench.device), problem.slope.half().to(bench.device)
    ones = ((1, 1), (1, 1), (1, 1), 1)  # stride, padding, dilation, groups
    runs: dict[str, Callable[[], Tensor]] = {
        "conv": lambda: F.conv2d(x, weight, padding=1),
        "conv, bias, prelu in eager": lambda: F.prelu(F.conv2d(x, weight, bias, padding=1), slope),
        "conv + bias + relu": lambda: torch.cudnn_convolution_relu(x, weight, bias, *ones),
        "conv + residual + relu": lambda: torch.cudnn_convolution_add_relu(x, weight, x, 1.0, bias, *ones),
    }
    for name, run in list(runs.items())[: 2 if bench.dry else None]:
        bench.report({name: bench.time(run, problem.flops)})


def pair(job: Job, bench: Bench) -> None:
    """Measures a residual block in one launch, against two."""
    problem = Problem(SHAPES["64->64"], job.height, job.width, bench.device)
    packed, x, out = problem.packed(), problem.canvas, problem.out
    middle = Canvas.allocate(1, 64, job.height, job.width, device=bench.device)
    apart = in_turn(conv_launch(x, packed, middle), conv_launch(middle, packed, out, x))
    bench.report({"key": pair_key(64, 3, 64, 3, 64)})
    _fused(job, bench, out, 2 * problem.flops, apart, lambda: pair_launch(x, packed, packed, out, x, form=job.what))


def tail(job: Job, bench: Bench) -> None:
    """Measures the last two convolutions of a network that enlarges fourfold in one launch, against two."""
    width, height = 2 * job.width, 2 * job.height
    wide = Problem((64, 256, 3, 1, 1), height, width, bench.device)
    few = Problem((256, 12, 5, 2, 1), 1, 1, bench.device)  # its image is what the first one makes
    first = pack_conv(wide.weight, wide.bias, act="prelu", slope=wide.slope, device=bench.device)
    second = pack_conv(few.weight, few.bias, shuffle=2, device=bench.device)
    middle = Canvas.allocate(1, 256, height, width, device=bench.device)
    out = Canvas.allocate(1, 3, 2 * height, 2 * width, device=bench.device)
    apart = in_turn(conv_launch(wide.canvas, first, middle), conv_launch(middle, second, out))
    bench.report({"key": pair_key(64, 3, 256, 5, 12)})

    def fused() -> cuda.Launch:
        return tail_launch(wide.canvas, pack_tail(first, second, few.weight), out, form=job.what)

    _fused(job, bench, out, wide.flops + few.flops * height * width, apart, fused)


def trunk(job: Job, bench: Bench) -> None:
    """Measures the trunk of a network, residual blocks and a last convolution, in one launch, against as many as convolutions."""
    problem = Problem(SHAPES["64->64"], job.height, job.width, bench.device)
    first = problem.packed()
    # The sums of a trained network stay small; those of random ones would leave float16's range.
    second = pack_conv(problem.weight, problem.bias, gain=0.2, device=bench.device)
    x, out = problem.canvas, problem.out
    middle, wide = (Canvas.allocate(1, 64, job.height, job.width, device=bench.device) for _ in range(2))
    convs, layers, source = list[CudaConv](), list[Layer](), x
    for _ in range(1 if bench.dry else TRUNK_BLOCKS):
        convs += [first, second]
        layers += [Layer(source, middle), Layer(middle, wide, source)]
        source = wide
    convs, layers = [*convs, second], [*layers, Layer(source, out, x)]
    apart = in_turn(
        *(
            hopper_launch(layer.source, conv, layer.out, layer.residual, form="wgmma_held")
            for conv, layer in zip(convs, layers, strict=True)
        )
    )
    rows = None
    if job.what == "two strips a block":
        # Half as high as alone, so that a block's other strip covers what a strip waits for. It chooses no kernel: no key.
        rows = -(-strip_rows(1, job.height, job.width, 64, block_count(bench.device)) // 2)
    else:
        bench.report({"key": trunk_key(64, 3)})
    _fused(
        job, bench, out, len(convs) * problem.flops, apart, lambda: trunk_launch(pack_trunk(convs), layers, rows=rows)
    )


def int8(job: Job, bench: Bench) -> None:
    """Measures the convolution in 8 bits, from bytes to bytes, with a residual to 16 bits too. It chooses no kernel: no key."""
    problem = Problem(SHAPES["64->64"], job.height, job.width, bench.device)
    rounding, slope = LowPrecision(8 / 255, 127), problem.slope.to(bench.device)
    source, result = (
        ByteCanvas(
            Canvas.allocate(1, 64, job.height, job.width, dtype=torch.uint8, device=bench.device),
            rounding,
        )
        for _ in range(2)
    )
    quantize_launch(problem.canvas, source)()
    packed = pack_int8(problem.weight, problem.bias, rounding, act="prelu", slope=problem.slope, device=bench.device)
    out, residual = (problem.out, problem.canvas) if job.residual else (None, None)
    launch = conv_int8_launch(source.canvas, packed, out, residual, out_bytes=result)
    bench.compile(launch)

    def error() -> float:
        weight, bias = problem.weight.to(bench.device), problem.bias.to(bench.device)
        added = problem.x if job.residual else None
        given = quantize_reference(problem.x, rounding)
        y = int8_reference(given, rounding, weight, bias, act="prelu", slope=slope, residual=added).half()
        launch()
        return difference(result.canvas.nchw().float(), quantize_reference(y, rounding).float())

    if bench.right(error, 0.0):  # sums of integers have no rounding
        bench.report(bench.time(launch, problem.flops))


def _fused(
    job: Job, bench: Bench, out: Canvas, flops: float, apart: cuda.Launch, build: Callable[[], cuda.Launch]
) -> None:
    """Measures one launch against ``apart``, whose result is right and which is timed where the job is one of ``APART``."""
    if job.what in APART:
        bench.compile(apart)
        bench.report(bench.time(apart, flops))
        return
    launch = build()
    bench.compile(launch)

    def error() -> float:
        apart()
        expected = out.nchw().float().clone()
        out.data.fill_(float("nan"))
        launch()
        return difference(out.nchw(), expected)

    if bench.right(error):
        bench.report(bench.time(launch, flops))


def net(job: Job, bench: Bench) -> None:
    """Measures a whole network in a backend, image and result as tensors."""
    subject = _rehearsed(job.what) if bench.dry else by_name(job.shape)
    module, x = subject.module().to(bench.device), subject.image(job.width, job.height).to(bench.device)
    with bench.turn(), torch.backends.cudnn.flags(allow_tf32=False):
        expected = module(x)
    if job.what == "eager":
        with bench.turn():  # cuDNN measures its algorithms
            run = eager_run(module, x, dtype=torch.bfloat16 if bench.dry else torch.float16, last=True)
            run()
    else:
        run = backend_run(module, x, backend=job.what, graphs=False)
    bench.compile(run)
    bench.report({"module": cuda.unavailable_reason() or "there"})
    if bench.right(lambda: difference(run(), expected), NETWORK_TOLERANCE):
        found = bench.time(run, subject.flop(job.width, job.height), 1)
        bench.report(found | {"fps": round(1e6 / found["us"], 1)})


def _rehearsed(backend: str) -> Subject:
    """A small network, for 'trunk' with one."""
    width, convs = (64, 3) if backend == "trunk" else (8, 1)
    return Subject("small", lambda: SRVGGNetCompact(num_feat=width, num_conv=convs, upscale=2))


def matrix(job: Job, bench: Bench) -> None:
    """Measures the rate of wgmma m64nNk16 in TFLOP/s, with both operands in shared memory, and with weights in registers."""
    if not bench.dry and ("90a" not in cuda.architectures() or torch.cuda.get_device_capability()[0] != 9):
        raise RuntimeError("it needs a Hopper GPU and srfast._cuda with sm_90a")
    rounds, blocks = (1, 1) if bench.dry else (512, torch.cuda.get_device_properties(0).multi_processor_count)
    source = torch.randn(1 << 15, device=bench.device).half()
    for columns, held in ((64, False), (120, False), (64, True)):
        arguments = {
            "columns": columns,
            "held": held,
            "source": source.data_ptr(),
            "rounds": rounds,
            "blocks": blocks,
        }
        flops = 2.0 * 64 * columns * 16 * 36 * rounds * 2 * blocks  # two warpgroups a block, 36 instructions a round
        found = bench.time(partial(_queued, bench, cuda.compiled.matrix_rate, **arguments), flops, 1)
        bench.report({f"m64n{columns}k16{' weights held' if held else ''}": found})


def memory(job: Job, bench: Bench) -> None:
    """Measures how fast the L2 cache is read, in TB/s, by the size of what is read."""
    for megabytes in (1 / 16,) if bench.dry else (16, 33, 50):
        data = torch.zeros(int(megabytes * 2**18), dtype=torch.int32, device=bench.device)
        sink, rounds = torch.zeros(1, dtype=torch.int32, device=bench.device), 1 if bench.dry else 20
        arguments = {
            "data": data.data_ptr(),
            "size": data.numel() * 4,
            "rounds": rounds,
            "sink": sink.data_ptr(),
        }
        found = bench.time(partial(_queued, bench, cuda.compiled.read_rate, **arguments), 0, 1)
        bench.report({f"{megabytes:g} MB": {**found, "TB/s": round(megabytes * 2**20 * rounds / found["us"] / 1e6, 3)}})


def _queued(bench: Bench, function: Callable[..., object], **arguments: object) -> None:
    """Calls one of the module's own measurements on the current stream, which a capture changes."""
    function(**arguments, stream=current_stream(bench.device))


def launches(job: Job, bench: Bench) -> None:
    """Measures what a launch costs in a graph of 32, plain and dependent, on one tile and on an image."""
    for label, size in (("one tile", (8, 16)), ("image", (job.height, job.width))):
        problem = Problem(SHAPES["64->64"], *size, bench.device)
        packed = problem.packed()
        for programmatic in (False, True):
            if programmatic and not bench.dry and torch.cuda.get_device_capability()[0] < 9:
                continue
            there = conv_launch(problem.canvas, packed, problem.out, programmatic=programmatic)
            back = conv_launch(problem.out, packed, problem.canvas, programmatic=programmatic)
            found = bench.time(in_turn(there, back), 2 * problem.flops, 1 if bench.dry else 16)
            bench.report({f"{label}, {'dependent' if programmatic else 'plain'}": {"us": round(found["us"] / 2, 2)}})


KINDS: dict[str, Callable[[Job, Bench], None]] = {
    function.__name__: function
    for function in (device, conv, triton, library, pair, tail, trunk, int8, net, matrix, memory, launches)
}


def prepare(dry: bool) -> torch.device:
    """Gives the device of jobs; a rehearsal has the emulated CUDA kernels, built if they must be."""
    if not dry:
        return torch.device("cuda")
    if cuda.emulated():
        return torch.device("cpu")
    sys.path.insert(0, str(REPOSITORY))
    from tests.helpers.cuda import emulation

    cuda.use_module(emulation.load(emulation.build(REPOSITORY / "build" / "emulated")))
    return torch.device("cpu")


def perform(job: Job, bench: Bench) -> None:
    """Runs a job.

    Raises:
        Exception: whatever went wrong.
    """
    with torch.inference_mode():
        KINDS[job.kind](job, bench)


def main(arguments: list[str]) -> int:
    """Runs one job and prints its parts; with a file descriptor it takes turns with others."""
    given: dict[str, Any] = json.loads(arguments[0])
    dry = bool(given.pop("dry", False))
    if dry:
        os.environ["TRITON_INTERPRET"] = "1"
    strange = sorted(set(given) - {field.name for field in fields(Job)})
    if strange:
        print(f"a job has no {strange[0]!r}; it has {', '.join(field.name for field in fields(Job))}", file=sys.stderr)
        return 2
    job, where = Job(**given), prepare(dry)
    if len(arguments) > 1:
        link = Link(int(arguments[1]))
        perform(job, Bench(where, link.turn, link.report))
    else:
        perform(job, Bench(where, nullcontext, lambda part: print(json.dumps(part), flush=True)))
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
