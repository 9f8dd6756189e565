"""The quality table: ``python -m benchmarks.quality --data FOLDER [--record auto] [MODEL ...]``.

PSNR-Y and SSIM-Y over Set5, Set14 and BSD100 by the usual protocol (MATLAB bicubic, uint8 result, Y channel, borders of
``scale`` pixels cropped), through eager float32 PyTorch and through srfast in each precision that runs here.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from benchmarks import machine, record
from benchmarks.record import Quality
from srfast.backends import default_device
from srfast.checkpoint import load_model, shipped_models
from srfast.errors import BackendError
from srfast.training.data import find_images, read_rgb
from srfast.training.evaluate import upscale_rgb
from srfast.training.imresize import imresize
from srfast.training.metrics import modcrop, psnr_y, ssim_y
from srfast.upscaler import Upscaler

Picture = npt.NDArray[np.uint8]
Upscale = Callable[[Picture], Picture]
SETS = ("Set5", "Set14", "BSD100")
# Checkpoints of others that the data folder may hold.
GIVEN = (
    "srgan_leftthomas/netG_epoch_2_100.pth",
    "srgan_leftthomas/netG_epoch_4_100.pth",
    "srvgg_compact/realesr-animevideov3.pth",
)


def modes(name: str) -> tuple[int, dict[str, Upscale]]:
    """Scale of a model, and its ways from uint8 RGB to uint8 RGB."""
    loaded = load_model(name)
    device = default_device()
    module = loaded.module.to(device)
    found: dict[str, Upscale] = {"eager fp32": lambda image: upscale_rgb(module, image)}
    for dtype in ("fp32", "fp16", "bf16") if device.type == "cuda" else ("fp32", "bf16"):
        try:
            found[f"srfast {dtype}"] = through_srfast(Upscaler(load_model(name), device=device, dtype=dtype))
        except BackendError:
            continue  # no backend runs that precision on this device
    return loaded.scale, found


def through_srfast(upscaler: Upscaler) -> Upscale:
    """srfast takes BGR as OpenCV gives it."""
    return lambda image: cv2.cvtColor(upscaler(cv2.cvtColor(image, cv2.COLOR_RGB2BGR)), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def measure(name: str, data: Path, sets: tuple[str, ...], without: str | None = None) -> list[Quality]:
    """Every mode of one model but those that match ``without``, and bicubic interpolation at its scale, over ``sets``."""
    scale, ways = modes(name)
    ways = {"bicubic": lambda image: imresize(image, scale), **ways}
    ways = {way: upscale for way, upscale in ways.items() if not (without and re.search(without, way))}
    found = []
    for chosen in sets:
        paths = find_images([data / "eval" / chosen / "HR"])
        scores: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for path in paths:
            high = modcrop(read_rgb(path), scale)
            low = imresize(high, 1 / scale)
            for way, upscale in ways.items():
                result = upscale(low)
                scores[way].append((psnr_y(result, high, scale), ssim_y(result, high, scale)))
        for way, values in scores.items():
            psnr, ssim = (float(np.mean([value[i] for value in values])) for i in (0, 1))
            found.append(
                Quality(f"{Path(name).stem}, x{scale}", chosen, way, len(values), psnr, ssim, machine.commit())
            )
            print(
                f"{found[-1].model:28} {chosen:8} {way:14} {psnr:7.3f} dB {ssim:.4f}  {len(values)} images", flush=True
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models",
        nargs="*",
        help="checkpoints or shipped models; by default every shipped model and the data's checkpoints",
    )
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SRFAST_DATA"), help="has eval/SET/HR; or SRFAST_DATA"
    )
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--without", help="leave modes out that match this regular expression, as 'bf16'")
    parser.add_argument("--record", help="record to add to: a file, or 'auto'")
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        parser.error("give the folder of the data with --data or SRFAST_DATA")
    cv2.setNumThreads(1)
    torch.set_grad_enabled(False)
    data = Path(options.data)
    given = [str(data / "checkpoints" / name) for name in GIVEN if (data / "checkpoints" / name).exists()]
    for name in options.models or [*shipped_models(), *given]:
        found = measure(name, data, tuple(options.sets), options.without)
        if options.record:
            add(found, record.default_path() if options.record == "auto" else Path(options.record))


def add(found: list[Quality], path: Path) -> None:
    """Replaces what the record at ``path`` says of the same model, set and mode."""
    saved = record.open_record(path)
    keys = {(q.model, q.data, q.mode) for q in found}
    saved.quality = [q for q in saved.quality if (q.model, q.data, q.mode) not in keys] + found
    record.save(saved, path)


if __name__ == "__main__":
    main()
