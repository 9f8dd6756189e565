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

from srfast.upscaler import Upscaler
from srfast.video import Damage, Encoding, upscale_video
from srfast.video.encoder import configure
from srfast.video.reader import RgbFrame, VideoReader
from srfast.video.settings import Settings, choose
from tests.helpers.video.clips import SIZE, Clip, make, matrix, picture
from tests.helpers.video.formulas import components, frame_of

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


def encoding_of(clip: Clip) -> Encoding:
    """As asked for by the clip, at the best quality that the encoder has."""
    given: dict[str, Any] = dict(clip.encoding)
    usual = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".y4m": "rawvideo"}
    codec = given.get("codec") or usual.get(clip.out or clip.suffix, "libx264")
    if codec == "libvpx-vp9":
        given["options"] = {"lossless": "1"}
    elif (
        codec in ("mpeg4", "mjpeg")
        or codec == "prores_ks"
        or (clip.alpha and clip.suffix == ".mov" and codec == "libx264")
    ):
        given["options"] = {"flags": "+qscale", "global_quality": "118"}
    elif codec in ("libx264", "libx265", "libsvtav1"):
        given["crf"] = 0 if codec == "libx264" else 1
        if (
            codec == "libsvtav1"
        ):  # its faster presets lose whole blocks near lossless: 271 levels of 1024, encoded directly
            given["options"] = {"preset": "4"}
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
    # Matroska has no times before zero, and the clock of a transport stream begins anywhere: all streams move together.
    if clip.out == ".mkv" or clip.suffix == ".ts":
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
    ):
        wanted = dict(zip(TAGS, clip.tags, strict=True))
        if clip.tags[0] == 2:  # untagged and small: BT.601, said in the output
            wanted |= {"colorspace": 6, "color_range": 1}
        assert {name: after[name] for name in TAGS} == wanted
    with VideoReader(source) as one, VideoReader(target) as other:
        # More bits than the encoder offers, or fewer, are a choice of its own.
        assert one.deep == other.deep
        assert one.alpha == other.alpha == clip.alpha
        settings = choose(one, encoding_of(clip), target.suffix, 2 * SIZE[0], 2 * SIZE[1])
    wanted, ours = decoded(source, settings.pix_fmt), decoded(target, settings.pix_fmt)
    direct = decoded(encode_directly(wanted, settings, target.with_name(f"direct{target.suffix}")), settings.pix_fmt)
    lost, cost = difference(ours, wanted), difference(direct, wanted)
    print(
        f"{clip.name}: {settings.codec} {settings.pix_fmt} loses {cost} levels by itself, {lost} after the conversion"
    )
    assert lost <= cost + 1
    assert cost <= LOSS.get(settings.codec, 0)
    check_source(clip, source)


# Levels that an encoder at its best quality takes from a flat patch by itself, measured; the others take nothing.
LOSS = {"libsvtav1": 1}


def decoded(path: Path, pix_fmt: str) -> list[list[np.ndarray]]:
    """Components of each frame in the decoder's own integers, at the middles of the patches."""
    found = []
    with av.open(str(path)) as c:
        for frame in c.decode(video=0):
            same = frame if frame.format.name == pix_fmt else frame.reformat(format=pix_fmt)
            found.append([middles(values) for values in components(same)])
    return found


def middles(values: np.ndarray) -> np.ndarray:
    """[2, 2, ...] values at the middles of the four patches."""
    h, w = values.shape[:2]
    return values[h // 4 :: h // 2, w // 4 :: w // 2].astype(int)


def difference(one: list[list[np.ndarray]], other: list[list[np.ndarray]]) -> int:
    pairs = [(a, b) for f, g in zip(one, other, strict=True) for a, b in zip(f, g, strict=True)]
    return max(int(np.abs(a - b).max()) for a, b in pairs)


def encode_directly(frames: list[list[np.ndarray]], settings: Settings, path: Path) -> Path:
    """The same patches through the same encoder, without any conversion."""
    pix_fmt = av.VideoFormat(settings.pix_fmt)
    kind = {"y4m": "yuv4mpegpipe"}.get(path.suffix[1:])
    with av.open(str(path), "w", format=kind, container_options={"strict": "-1"} if kind else {}) as out:
        video = out.add_stream(settings.codec, rate=25)
        video.codec_context.options = configure(video.codec_context, settings)
        video.codec_context.time_base = video.time_base = Fraction(1, 25)
        for number, values in enumerate(frames):
            full = [v.repeat(settings.height // 2, 0).repeat(settings.width // 2, 1) for v in values]
            if pix_fmt.is_rgb:
                kind = {3: "rgb24", 4: "rgba"}[full[0].shape[2]]
                frame = av.VideoFrame.from_ndarray(full[0].astype(np.uint8), format=kind).reformat(format=pix_fmt.name)
            else:
                frame = frame_of([v.astype(np.uint16) for v in full], pix_fmt.name)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            frame.color_range = settings.colour.range
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def check_source(clip: Clip, source: Path) -> None:
    """The clip is what it says, and is understood: its RGB is the picture, but for its own encoder's loss."""
    if clip.pix_fmt == "gray":
        return
    with VideoReader(source) as reader:
        read = [i.image for i in reader.items([]) if isinstance(i, RgbFrame)]
    for index, image in enumerate(read):
        unit = 257 if image.dtype == np.uint16 else 1
        error = middles(image) * (257 // unit) - middles(picture(index, clip.alpha))
        assert np.abs(error).max() <= (8 if clip.codec in ("libvpx", "libsvtav1", "mpeg4", "prores_ks") else 3) * 257


def test_matrix_is_large() -> None:
    assert len(MATRIX) >= 60
    assert len({c.name for c in MATRIX}) == len(MATRIX)
