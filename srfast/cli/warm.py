"""The command ``srfast warm``: compiles what a network's first frame on a GPU would wait for."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from srfast.cli.options import add_hints, frame_size
from srfast.errors import escaped

if TYPE_CHECKING:
    from srfast.engine.engine import Engine


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    p = commands.add_parser(
        "warm", parents=[common], help="compile a network's GPU kernels ahead, so that no first frame waits for them"
    )
    p.add_argument("model", help="a checkpoint file or a shipped model's name (see 'srfast info')")
    p.add_argument(
        "--size",
        type=frame_size,
        metavar="WxH",
        action="append",
        required=True,
        help="width and height of the input in pixels, such as 1920x1080; may be given more than once",
    )
    p.add_argument("--backend", default="auto", help="auto (default), triton, gluon, cuda, mixed or trunk")
    p.add_argument("--device", help="cuda, cuda:1, ...; the first GPU by default")
    p.add_argument("--dtype", choices=["fp16", "bf16", "fp32"], help="the fastest that is exact enough by default")
    p.add_argument("-t", "--tile", type=int, help="tile side in input pixels, 0 for none; as memory allows by default")
    add_hints(p, "--model-scale")
    p.set_defaults(run=_warm)


def _warm(args: argparse.Namespace) -> int:
    from srfast.upscaler import load

    hints = {"scale": args.model_scale, "act": args.act, "res_scale": args.res_scale}
    with load(
        args.model, **hints, backend=args.backend, device=args.device, dtype=args.dtype, tile=args.tile
    ) as upscaler:
        for width, height in args.size:
            start = time.monotonic()
            engine = upscaler.engine.for_frames(8, height, width)
            _run_once(engine, height, width)
            seconds = time.monotonic() - start
            print(escaped(f"{upscaler.name} {width}x{height} by {engine.backend.name}: {seconds:.1f} s"))
        device = upscaler.engine.device.type
        if device != "cuda":
            print(f"on the {device} nothing is compiled that a later start could use; name a GPU by --device")
    return 0


def _run_once(engine: Engine, height: int, width: int) -> None:
    """Upscale one black frame in each form that images and video come in: the same path, so the same kernels."""
    import torch

    from srfast.kernels.planes import PlaneColour

    frames = torch.zeros(1, height, width, engine.plan.in_channels, dtype=torch.uint8)
    # The order of channels is a constant of the kernels, so each is compiled for itself.
    for bgr in (False, True) if engine.takes_bgr else (False,):
        engine(frames, bgr=bgr)
    if engine.plane_unit is not None and height % engine.plane_unit == 0 == width % engine.plane_unit:
        # What hardware decoders give: 4:2:0, eight bits a value.
        planes = torch.zeros(1, height * 3 // 2, width, 1, dtype=torch.uint8)
        engine.begin(planes, colour=PlaneColour())()
