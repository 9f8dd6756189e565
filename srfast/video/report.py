"""What a run did, for programs and in one line."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from srfast.upscaler import Upscaler
from srfast.video.memory import peak_memory
from srfast.video.pipeline import VideoResult

_STAGES = {"decode": "decoding", "network": "the network", "encode": "encoding", "finish": "finishing the file"}
_ADVICE = {
    "decode": "a hardware decoder helps (--hwaccel)",
    "encode": "a faster preset (-e preset=veryfast) or a hardware encoder (-c h264_nvenc) helps",
}


def bottleneck(result: VideoResult) -> str:
    """The stage that worked longest."""
    return max(result.stages, key=lambda stage: result.stages[stage], default="network")


def verdict(result: VideoResult) -> str:
    """One line: frames, rate, and what held it back."""
    new = result.frames - result.resumed
    parts = [f"{result.frames} frames of {result.width}x{result.height}, {result.fps:.2f} fps"]
    if result.interrupted:
        parts.append("ended by Ctrl-C")
    if result.resumed:
        parts.append(f"{result.resumed} of them from before")
    if result.redone:
        parts.append(f"{result.redone} redone in float32")
    # Below half a per cent it would be printed as 0%.
    if result.reuse.saved >= 0.005:
        parts.append(f"{result.reuse.saved:.0%} of the work reused")
    if new:
        stage = bottleneck(result)
        busy = {name: seconds / result.seconds for name, seconds in result.stages.items() if name in _STAGES}
        others = ", ".join(f"{_STAGES[name]} {share:.0%}" for name, share in busy.items() if name != stage)
        parts.append(f"held back by {_STAGES[stage]}, busy {busy[stage]:.0%} of the time ({others})")
        if stage in _ADVICE:
            parts.append(_ADVICE[stage])
    return "; ".join(parts)


def as_dict(result: VideoResult, source: str, target: str, upscaler: Upscaler) -> dict[str, Any]:
    """The report as JSON's types; seconds, bytes, frames and pixels."""
    return {
        "input": source,
        "output": target,
        "output_bytes": os.path.getsize(target) if os.path.isfile(target) else None,
        "model": upscaler.name,
        "engine": {
            **{name.replace(" ", "_"): value for name, value in result.arithmetic.items()},
            "tiles": upscaler.engine.statistics.tiles,
            "out_of_memory": upscaler.engine.statistics.out_of_memory,
        },
        "frames": result.frames,
        "resumed_frames": result.resumed,
        "redone_frames": result.redone,
        "width": result.width,
        "height": result.height,
        "interrupted": result.interrupted,
        "codec": result.codec,
        "pix_fmt": result.pix_fmt,
        "seconds": result.seconds,
        "fps": result.fps,
        "stage_seconds": result.stages,
        "bottleneck": bottleneck(result),
        "verdict": verdict(result),
        "reuse": asdict(result.reuse),
        "damage": asdict(result.damage),
        "peak_memory_bytes": peak_memory(),
    }
