"""What people write by hand: a frame through eager PyTorch, and video loops around it. Written for comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Frame = npt.NDArray[np.uint8]
Upscale = Callable[[Frame], Frame]


def eager_frame(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Upscale:
    """[H, W, 3] BGR uint8 -> the same, enlarged: the conversions on the device, the network in eager PyTorch."""
    module = module.to(device, dtype)

    @torch.inference_mode()
    def run(frame: Frame) -> Frame:
        x = torch.from_numpy(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).to(device)
        x = x.permute(2, 0, 1).unsqueeze(0).to(dtype) / 255
        y = module(x)[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return np.asarray(cv2.cvtColor(y, cv2.COLOR_RGB2BGR), dtype=np.uint8)

    return run


def real_esrgan_frame(module: nn.Module, device: torch.device, dtype: torch.dtype, pre_pad: int = 10) -> Upscale:
    """The steps of Real-ESRGAN's ``enhance``: all conversions in float32 on the host, the image padded by mirroring."""
    module = module.to(device, dtype)
    scale = int(module.scale)  # type: ignore[arg-type]

    @torch.inference_mode()
    def run(frame: Frame) -> Frame:
        image = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_BGR2RGB)
        x = torch.from_numpy(np.transpose(image, (2, 0, 1))).float().unsqueeze(0).to(device, dtype)
        x = nn.functional.pad(x, (0, pre_pad, 0, pre_pad), "reflect")
        y = module(x)
        y = y[:, :, : y.shape[2] - pre_pad * scale, : y.shape[3] - pre_pad * scale]
        out = y.data.squeeze().float().cpu().clamp_(0, 1).numpy()
        out = np.transpose(out[[2, 1, 0]], (1, 2, 0))
        return np.asarray((out * 255.0).round().astype(np.uint8))

    return run


def openvino_frame(module: nn.Module, height: int, width: int) -> Upscale:
    """OpenVINO (f32, latency) with the conversions in OpenCV and numpy."""
    from benchmarks.peers import openvino_run, require

    require("openvino")
    x = torch.zeros(1, 3, height, width)
    run = openvino_run(module, x, precision="f32", hint="LATENCY")
    image = x.numpy()  # the array that the function reads

    def upscale(frame: Frame) -> Frame:
        rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        np.multiply(rgb.transpose(2, 0, 1)[None], np.float32(1 / 255), out=image)
        y = np.clip(run()[0] * np.float32(255), 0, 255).round().astype(np.uint8)
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(y.transpose(1, 2, 0)), cv2.COLOR_RGB2BGR), dtype=np.uint8)

    return upscale


def opencv_loop(source: Path, target: Path, upscale: Upscale, limit: int) -> int:
    """cv2.VideoCapture, one frame at a time through ``upscale``, cv2.VideoWriter (mp4v); the frames written."""
    capture = cv2.VideoCapture(str(source))
    writer: Any = None
    done = 0
    while done < limit:
        there, frame = capture.read()
        if not there:
            break
        out = upscale(np.asarray(frame, dtype=np.uint8))
        if writer is None:
            rate = capture.get(cv2.CAP_PROP_FPS)
            four = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(target), four, rate, (out.shape[1], out.shape[0]))
        writer.write(out)
        done += 1
    capture.release()
    if writer is not None:
        writer.release()
    return done


def pyav_loop(source: Path, target: Path, upscale: Upscale, limit: int) -> int:
    """Real-ESRGAN's video loop: decode to bgr24, ``upscale``, encode with libx264 (crf 23), one after another.

    Its decoder and encoder are ffmpeg processes behind pipes; PyAV runs the same libraries without the pipes.
    """
    import av

    done = 0
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream: Any = None
        for decoded in reader.decode(video=0):
            if done == limit:
                break
            out = upscale(decoded.to_ndarray(format="bgr24"))
            if stream is None:
                stream = writer.add_stream("libx264", rate=reader.streams.video[0].average_rate)
                stream.width, stream.height, stream.pix_fmt = out.shape[1], out.shape[0], "yuv420p"
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(out, format="bgr24")))
            done += 1
        if stream is not None:
            writer.mux(stream.encode(None))
    return done
