"""Videos whose frames go through the network as planes: exact, in order, and only where that is the same colour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import nn

from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference
from srfast.models import SRVGGNetCompact
from srfast.upscaler import Upscaler
from srfast.video import Encoding, upscale_video
from srfast.video.colour import Colour
from srfast.video.planes import from_planes, to_planes
from srfast.video.reader import VideoReader
from srfast.video.settings import choose
from srfast.video.upscale_stage import plane_colour
from tests.helpers.networks.small import randomise
from tests.helpers.plane_network import take_planes
from tests.helpers.video.gradients import STEADY, UNEVEN, frame_times, make_clip, packets

FORMATS = ["yuv420p", "nv12", "yuv420p10le", "p010le"]
LOSSLESS = Encoding("ffv1", None, None)


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as c:
        return [to_planes(f, f.format.name, (f.width, f.height)) for f in c.decode(video=0)]


@pytest.fixture
def small_network() -> nn.Module:
    torch.manual_seed(0)
    return randomise(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2))


@pytest.fixture
def upscaler(small_network: nn.Module) -> Upscaler:
    return Upscaler(small_network, backend="reference", device="cpu", dtype="fp32")


@pytest.mark.parametrize("name", FORMATS)
def test_frames_to_planes_and_back(name: str) -> None:
    rng = np.random.default_rng(0)
    frame = av.VideoFrame(34, 6, name)  # rows end before their memory does
    bits = frame.format.components[0].bits
    for plane in frame.planes:
        values = rng.integers(0, 1 << bits, plane.buffer_size // (2 if bits > 8 else 1))
        plane.update((values << (6 if name == "p010le" else 0)).astype(np.uint16 if bits > 8 else np.uint8).tobytes())
    picture = to_planes(frame, name, (34, 6))
    assert picture.shape == (9, 34, 1)
    back = from_planes(picture, name, Colour(1, 1, 1, 1, False))
    assert np.array_equal(to_planes(back, name, (34, 6)), picture)
    # FFmpeg's own conversion between planar and interleaved chroma agrees; its threads overwrite one another's rows.
    other = {"yuv420p": "nv12", "nv12": "yuv420p", "yuv420p10le": "p010le", "p010le": "yuv420p10le"}[name]
    assert np.array_equal(to_planes(frame.reformat(format=other, threads=1), other, (34, 6)), picture)
    assert (back.colorspace, back.color_range) == (1, 1)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("pix_fmt", "times"), [("yuv420p", STEADY), ("yuv420p10le", UNEVEN)])
def test_a_video_of_planes(
    tmp_path: Path, small_network: nn.Module, upscaler: Upscaler, pix_fmt: str, times: list[int], late: bool
) -> None:
    """Each frame is what the twins make of the decoded planes; times and audio as ever."""
    source = make_clip(tmp_path / "in.mkv", times, pix_fmt=pix_fmt, audio=True, tags=(1, 1, 1, 1))
    exact = Upscaler(small_network, backend="reference", device="cpu", dtype="fp32").engine
    network = take_planes(upscaler.engine, seed=0 if late else None)
    result = upscale_video(source, tmp_path / "out.mkv", upscaler, encoding=LOSSLESS)
    assert result.frames == len(times) == len(network.calls)
    assert frame_times(tmp_path / "out.mkv") == frame_times(source)
    assert packets(tmp_path / "out.mkv", "audio") == packets(source, "audio")
    colour = PlaneColour(1, False, torch.uint8 if pix_fmt == "yuv420p" else torch.uint16)
    for ours, given in zip(decoded(tmp_path / "out.mkv"), decoded(source), strict=True):
        rgb = load_planes_reference(Planes.of(torch.from_numpy(given)[None], colour), 1.0).permute(0, 2, 3, 1).float()
        theirs = store_planes_reference(exact(rgb).permute(0, 3, 1, 2), 1.0, colour).picture[0].numpy()
        assert np.abs(ours.astype(int) - theirs).max() <= colour.step
    with av.open(str(tmp_path / "out.mkv")) as c:
        assert c.streams.video[0].pix_fmt == pix_fmt


def test_planes_agree_with_rgb(tmp_path: Path, upscaler: Upscaler) -> None:
    """The path by way of RGB rounds to 8 bits twice more and filters chroma with more taps."""
    source = make_clip(tmp_path / "in.mkv", STEADY, tags=(1, 1, 1, 1))
    upscale_video(source, tmp_path / "rgb.mkv", upscaler, encoding=LOSSLESS)
    take_planes(upscaler.engine)
    upscale_video(source, tmp_path / "planes.mkv", upscaler, encoding=LOSSLESS)
    for ours, theirs in zip(decoded(tmp_path / "planes.mkv"), decoded(tmp_path / "rgb.mkv"), strict=True):
        error = np.abs(ours.astype(int) - theirs)
        assert error.mean() <= 1
        assert error.max() <= 24


def test_repeated_frames_are_sent_once(tmp_path: Path, upscaler: Upscaler) -> None:
    source = tmp_path / "still.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 8, "yuv420p"
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((8, 16, 3), 40 * (i // 3), np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    network = take_planes(upscaler.engine, seed=0)
    result = upscale_video(source, tmp_path / "out.mkv", upscaler, encoding=LOSSLESS)
    assert (result.frames, result.reuse.repeated, len(network.calls)) == (6, 4, 2)
    still = decoded(tmp_path / "out.mkv")
    assert all(np.array_equal(still[i], still[i // 3 * 3]) for i in range(6))


def test_rgb_frames_are_sent_ahead_too(tmp_path: Path, upscaler: Upscaler) -> None:
    """4:4:4 goes by way of RGB; with queues several frames are on their way, and the result is the same."""
    source = make_clip(tmp_path / "in.mkv", STEADY, pix_fmt="yuv444p", tags=(1, 1, 1, 1))
    upscale_video(source, tmp_path / "one.mkv", upscaler, encoding=LOSSLESS)
    network = take_planes(upscaler.engine, seed=1)
    result = upscale_video(source, tmp_path / "ahead.mkv", upscaler, encoding=LOSSLESS)
    assert result.frames == len(STEADY)
    assert network.calls == []
    with av.open(str(tmp_path / "one.mkv")) as a, av.open(str(tmp_path / "ahead.mkv")) as b:
        for one, other in zip(a.decode(video=0), b.decode(video=0), strict=True):
            assert np.array_equal(one.to_ndarray(), other.to_ndarray())


@pytest.mark.parametrize(
    ("pix_fmt", "size", "change", "taken"),
    [
        ("yuv420p", (48, 32), {}, True),
        ("yuv420p10le", (48, 32), {}, True),
        ("yuv420p", (48, 32), {"pix_fmt": "yuv444p"}, False),
        ("yuv420p", (48, 32), {"pix_fmt": "yuv420p10le"}, False),
        ("yuv444p", (48, 32), {}, False),
        ("yuvj420p", (48, 32), {}, False),
    ],
)
def test_where_planes_are_taken(
    tmp_path: Path,
    small_network: nn.Module,
    upscaler: Upscaler,
    pix_fmt: str,
    size: tuple[int, int],
    change: dict[str, str],
    taken: bool,
) -> None:
    source = make_clip(tmp_path / "in.mkv", STEADY, size=size, pix_fmt=pix_fmt, tags=(1, 1, 1, 1))
    with VideoReader(source) as reader:
        settings = replace(choose(reader, LOSSLESS, ".mkv", 2 * size[0], 2 * size[1]), **change)  # type: ignore[arg-type]
        assert plane_colour(reader, settings, upscaler) is None, "the reference backend takes none"
        take_planes(upscaler.engine)
        assert (plane_colour(reader, settings, upscaler) is not None) == taken
        other = Upscaler(small_network, backend="reference", device="cpu", dtype="fp32", outscale=3)
        take_planes(other.engine)
        assert plane_colour(reader, settings, other) is None, "the result is resized on the host"


@pytest.mark.usefixtures("emulated_cuda")
def test_a_video_through_the_cuda_kernels(tmp_path: Path) -> None:
    """The compiled kernels, emulated: planes in, planes out, close to the float32 network."""
    source = make_clip(tmp_path / "in.mkv", STEADY[:2], size=(18, 10), tags=(1, 1, 1, 1))
    network = randomise(SRVGGNetCompact(num_feat=16, num_conv=0, upscale=2))
    plain = Upscaler(network, backend="reference", device="cpu", dtype="fp32")
    take_planes(plain.engine)
    upscale_video(source, tmp_path / "expected.mkv", plain, encoding=LOSSLESS)
    upscaler = Upscaler(network, backend="cuda", device="cpu", dtype="fp16")
    assert upscaler.engine.plane_unit == 2
    upscale_video(source, tmp_path / "out.mkv", upscaler, encoding=LOSSLESS)
    for ours, theirs in zip(decoded(tmp_path / "out.mkv"), decoded(tmp_path / "expected.mkv"), strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1
