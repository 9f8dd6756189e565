"""Sixty kinds of clips and more through a network that changes nothing: all that is not a pixel must come out the same."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import nn
from video.clips import SIZE, Clip, make, matrix, picture

from srfast.upscaler import Upscaler
from srfast.video import Damage, Encoding, upscale_video
from srfast.video.reader import RgbFrame, VideoReader

MATRIX = matrix()
TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")
# In the default run: each container, each kind of track, each thing that is special.
SAMPLE = {
    "mkv_flac",
    "uneven",
    "late",
    "to.",
    "alpha",
    "bgra",
    "yuva",
    "avi",
    "y4m",
    "ts_",
    "nut",
    "sar16",
    "rot90",
    "x265_yuv420p10le",
    "webm_libvpx_",
    "tb30",
    "interlaced",
    "9-1-9-18",
    "2-0-2-2",
}


class Larger(nn.Module):
    """Every pixel twice in both directions, exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 1, bias=False)
        self.shuffle = nn.PixelShuffle(2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3).repeat_interleave(4, 0)[:, :, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shuffle(self.conv(x))


@pytest.fixture(scope="module")
def larger() -> Upscaler:
    return Upscaler(Larger())


def facts(path: Path) -> dict[str, Any]:
    """What ffprobe would say, without what must differ: sizes, codec, decoding order."""
    with av.open(str(path)) as c:
        video = c.streams.video[0]
        context = video.codec_context
        found: dict[str, Any] = {name: int(getattr(context, name)) for name in TAGS}
        found["aspect"] = video.sample_aspect_ratio
        found["kinds"] = sorted(s.type for s in c.streams)
        found["title"] = c.metadata.get("title")
        chapters = c.chapters()
        found["chapters"] = [(x["start"] * x["time_base"], x["end"] * x["time_base"], x["metadata"]) for x in chapters]
        found["languages"] = [s.metadata.get("language") for s in c.streams.audio]
        found["attachments"] = [(s.name, s.mimetype, bytes(s.data)) for s in c.streams if s.type == "attachment"]
        others = [s for s in c.streams if s.type in ("audio", "subtitle")]
        packets: dict[int, list[Any]] = {s.index: [] for s in others}
        times = []
        for packet in c.demux([video, *others]):
            if packet.stream.index in packets:
                if packet.size:
                    packets[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
                continue
            for frame in packet.decode():
                times.append(frame.pts * frame.time_base)
                found.setdefault("rotation", frame.rotation)
        found["times"], found["packets"] = times, list(packets.values())
    return found


# Encoders that have no lossless or nearly lossless setting here.
COARSE = ("mpeg4", "mjpeg", "libvpx", "libsvtav1", "prores_ks")


def encoding_of(clip: Clip) -> Encoding:
    """As asked for by the clip, so good that only the conversion of colours can cost anything."""
    given = dict(clip.encoding)
    usual = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".y4m": "rawvideo"}
    codec = given.get("codec") or usual.get(clip.suffix, "libx264")
    if codec == "libvpx-vp9":
        given["options"] = {"lossless": "1"}
    elif codec in ("libx264", "libx265", "libsvtav1") and not (clip.alpha and clip.suffix == ".mov"):
        given["crf"] = 0 if codec == "libx264" else 1
    return Encoding(**given)


def near(a: Fraction, b: Fraction, step: Fraction) -> bool:
    return abs(a - b) <= step


@pytest.mark.parametrize(
    "clip",
    [pytest.param(c, id=c.name, marks=() if any(s in c.name for s in SAMPLE) else pytest.mark.slow) for c in MATRIX],
)
def test_everything_survives(clip: Clip, tmp_path: Path, larger: Upscaler, caplog: pytest.LogCaptureFixture) -> None:
    source = make(clip, tmp_path)
    target = tmp_path / f"out{clip.out or clip.suffix}"
    with caplog.at_level(logging.WARNING, "srfast"):
        result = upscale_video(source, target, larger, encoding=encoding_of(clip))
    assert result.damage == Damage()
    assert result.frames == len(clip.times)
    before, after = facts(source), facts(target)
    # Between containers of another time unit a time may move by half a unit.
    step = Fraction(1, 1000) if clip.out else Fraction(0)
    if clip.out == ".mkv":  # no times before zero: all streams move together
        move = after["times"][0] - before["times"][0]
        before["times"] = [t + move for t in before["times"]]
        before["packets"] = [[(t + move, data) for t, data in one] for one in before["packets"]]
    assert len(before["times"]) == len(after["times"]) == len(clip.times)
    assert all(near(a, b, step) for a, b in zip(before["times"], after["times"], strict=True))
    for one, other in zip(before["packets"], after["packets"], strict=True):
        assert [data for _, data in one] == [data for _, data in other] != []
        assert all(near(a, b, step) for (a, _), (b, _) in zip(one, other, strict=True))
    for key in ("aspect", "kinds", "title", "chapters", "languages", "attachments", "rotation"):
        if key == "aspect" and not clip.aspect:
            continue
        assert before[key] == after[key], key
    check_colours(clip, source, target, before, after)
    assert ("interlaced" in caplog.text) == clip.interlaced


def check_colours(clip: Clip, source: Path, target: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    if clip.suffix not in (".y4m", ".avi", ".nut", ".ts") and clip.codec not in (
        "mpeg4",
        "libvpx",
        "qtrle",
        "png",
        "prores_ks",
    ):
        wanted = dict(zip(TAGS, clip.tags, strict=True))
        if clip.tags[0] == 2:  # untagged and small: BT.601, said in the output
            wanted |= {"colorspace": 6, "color_range": 1}
        assert {name: after[name] for name in TAGS} == wanted
    with VideoReader(source) as one, VideoReader(target) as other:
        assert one.deep == other.deep or clip.codec in ("mpeg4", "libvpx")
        assert one.alpha == other.alpha == clip.alpha
        read = [[i.image for i in r.items([]) if isinstance(i, RgbFrame)] for r in (one, other)]
    for index, (a, b) in enumerate(zip(*read, strict=True)):
        unit = 257 if a.dtype == np.uint16 else 1
        ideal = picture(index, clip.alpha).astype(np.float64) / (1 if a.dtype == np.uint16 else 257)
        for y in (SIZE[1] // 4, 3 * SIZE[1] // 4):
            for x in (SIZE[0] // 4, 3 * SIZE[0] // 4):
                colour, result = a[y, x].astype(int), b[2 * y, 2 * x].astype(int)
                if clip.pix_fmt != "gray":
                    assert (
                        np.abs(colour - ideal[y, x]).max() <= (8 if clip.codec in COARSE else 3.5) * unit
                    )  # the clip is what it says
                coarse = clip.codec in COARSE or clip.suffix == ".avi"
                assert np.abs(colour - result).max() <= (12 if coarse else 1) * unit, (index, colour, result)


def test_matrix_is_large() -> None:
    assert len(MATRIX) >= 60
    assert len({c.name for c in MATRIX}) == len(MATRIX)
