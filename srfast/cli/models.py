"""The commands that look at checkpoints: ``srfast inspect``, ``convert``, ``export`` and ``verify``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast.cli.options import add_hints, frame_size
from srfast.errors import OutputError, UnsupportedModelError, escaped, escaped_lines

if TYPE_CHECKING:
    from srfast.checkpoint import LoadedModel

FAILED = 1  # exit code of a verification that did not pass


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the four commands to the parser."""
    hints = argparse.ArgumentParser(add_help=False, parents=[common])
    hints.add_argument("model", help="a checkpoint file, a shipped model's name, hf:org/repo/file.pth or omdb:NAME")
    add_hints(hints, "--model-scale", "--scale")
    p = commands.add_parser("inspect", parents=[hints], help="what a checkpoint is, what it needs, what runs it")
    p.add_argument(
        "--size",
        type=frame_size,
        default=(1280, 720),
        metavar="WxH",
        help="width and height of the images to count work and memory for (1280x720)",
    )
    p.add_argument("--plan", action="store_true", help="print the fused operations as well")
    p.add_argument(
        "--keys", action="store_true", help="list the tensors, also of a file of no known network, and the networks"
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run=_inspect)
    p = commands.add_parser("convert", parents=[hints], help="write a checkpoint as safetensors")
    p.add_argument("output", type=Path, help="the .safetensors file")
    p.add_argument("--half", action="store_true", help="store convolution weights as float16")
    p.add_argument("-y", "--overwrite", action="store_true", help="replace a file that exists")
    p.set_defaults(run=_convert)
    p = commands.add_parser("export", parents=[hints], help="write the fused network as ONNX or for ncnn")
    p.add_argument("output", type=Path, help="the .onnx file, or the .param file, which gets a .bin file beside it")
    p.add_argument(
        "--dtype", choices=["fp32", "fp16"], default="fp32", help="of weights; in ONNX also of input and output"
    )
    p.add_argument("-y", "--overwrite", action="store_true", help="replace a file that exists")
    p.set_defaults(run=_export)
    p = commands.add_parser(
        "verify", parents=[hints], help="compare the fused network with eager float32 on your frames"
    )
    p.add_argument("input", nargs="?", type=Path, help="a video or an image; the shipped clip by default")
    p.add_argument("--frames", type=int, default=3, help="frames of a video to compare (3)")
    p.add_argument("--side", type=int, default=256, help="side of the compared middle part in input pixels (256)")
    p.add_argument("--backend", default="auto", help="auto (default) or a backend's name")
    p.add_argument("--device", help="cpu, cuda, ...; the first GPU by default")
    p.add_argument("--dtype", choices=["fp16", "bf16", "fp32"], help="the fastest that is exact enough by default")
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run=_verify)


def _load(args: argparse.Namespace) -> LoadedModel:
    from srfast.checkpoint import load_model

    return load_model(args.model, scale=args.model_scale, act=args.act, res_scale=args.res_scale)


def _inspect(args: argparse.Namespace) -> int:
    from srfast.diagnostics.inspection import inspect_model

    if args.keys:
        if args.json or args.plan:
            raise ValueError("--keys lists the tensors as text, without --json and --plan: leave these out")
        return _keys(args.model)
    inspection, plan = inspect_model(_load(args), *args.size)
    if args.json:
        facts = inspection.as_dict() | ({"plan": str(plan).splitlines()} if args.plan else {})
        print(json.dumps(facts, indent=2))
    else:
        print(escaped_lines(f"{inspection}\n\n{plan}" if args.plan else inspection))
    return 0


def _keys(source: str) -> int:
    from srfast.checkpoint import read_tensors
    from srfast.checkpoint.registry import LAYOUTS
    from srfast.errors import escaped

    for name, value in read_tensors(source):
        print(f"{escaped(name)}  {list(value.shape)} {str(value.dtype).removeprefix('torch.')}")
    print("\nKnown networks, and the keys that tell them:")
    for layout in LAYOUTS:
        print(f"  {layout.architecture} ({layout.origin}): {', '.join(layout.marks)}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    import torch

    from srfast._files import check_output
    from srfast.checkpoint import load_model, save_checkpoint

    if args.output.suffix != ".safetensors":
        raise OutputError(f"{args.output} should end in .safetensors; 'srfast export' writes ONNX")
    check_output(args.output, args.overwrite)
    model = _load(args)
    if model.file_kind == "ONNX":
        raise UnsupportedModelError(f"{args.model} is ONNX, a graph without an architecture, and stays as it is")
    save_checkpoint(model.module, args.output, torch.float16 if args.half else torch.float32, facts=model)
    # Read back: a file that cannot be read is found now and not when the original is gone.
    again = load_model(args.output)
    print(escaped(f"{args.output}: {again.architecture} x{again.scale}, {args.output.stat().st_size / 1e6:.1f} MB"))
    return 0


def _export(args: argparse.Namespace) -> int:
    import torch

    from srfast._files import check_output
    from srfast.capture import capture
    from srfast.diagnostics.inspection import colours_of
    from srfast.plan.export_ncnn import export_ncnn
    from srfast.plan.export_onnx import export_onnx
    from srfast.plan.passes import optimise

    writers = {".onnx": export_onnx, ".param": export_ncnn}
    if args.output.suffix not in writers:
        raise OutputError(f"{args.output} should end in .onnx or .param (ncnn); 'srfast convert' writes safetensors")
    files = [args.output, args.output.with_suffix(".bin")] if args.output.suffix == ".param" else [args.output]
    for file in files:
        check_output(file, args.overwrite)
    model = _load(args)
    plan = optimise(capture(model.module))
    writers[args.output.suffix](
        plan, args.output, torch.float16 if args.dtype == "fp16" else torch.float32, args.overwrite
    )
    multiple = f", height and width multiples of {plan.alignment}" if plan.alignment > 1 else ""
    colours = colours_of(plan.in_channels)
    shape = f"[N, {plan.in_channels}, H, W] {args.dtype}, 0..1, {colours}{multiple}"
    if len(files) > 1:
        shape = f"blob 'data', {colours} in 0..1; output: blob 'output'; weights in {files[1].name}"
    size = sum(file.stat().st_size for file in files) / 1e6
    print(escaped(f"{args.output}: {model.architecture} x{plan.scale}, input {shape}, {size:.1f} MB"))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from srfast.capture import capture
    from srfast.diagnostics.inspection import colours_of
    from srfast.diagnostics.verification import CLIP, frames_of, verify
    from srfast.engine import Engine
    from srfast.plan.passes import optimise
    from srfast.upscaler import DTYPES

    if args.frames < 1 or args.side < 1:
        raise ValueError("--frames and --side take numbers from 1")
    model = _load(args)
    plan = optimise(capture(model.module))
    if plan.in_channels != 3:
        raise UnsupportedModelError(f"{args.model} takes {colours_of(plan.in_channels)}; frames are RGB, 3")
    engine = Engine(plan, backend=args.backend, device=args.device, dtype=DTYPES[args.dtype] if args.dtype else None)
    result = verify(model, engine, frames_of(args.input or CLIP, args.frames), args.side)
    print(json.dumps(result.as_dict(), indent=2) if args.json else result)
    return 0 if result.passed else FAILED
