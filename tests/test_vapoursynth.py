"""``srfast.vapoursynth.upscale`` against the Python API, frame for frame. float32 on the CPU; skips without VapourSynth."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srfast import Upscaler
from srfast.errors import InputError, MissingDependencyError
from srfast.vapoursynth import _Network, upscale
from tests.helpers.video.children import save_tiny, tiny_network

try:
    import vapoursynth as vs
except ImportError:
    vs = None

needs_vapoursynth = pytest.mark.skipif(vs is None, reason="VapourSynth is not installed; it needs Python 3.12 or newer")
FRAMES, HEIGHT, WIDTH = 6, 18, 26


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler(tiny_network(), device="cpu", dtype="fp32")


def samples(kind: Any, plane: int, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """A plane of noise, other for every frame and plane."""
    noise = np.random.default_rng([plane, n]).random(shape)
    if kind.sample_type == vs.FLOAT:
        chroma = kind.color_family == vs.YUV and plane > 0
        return (noise - 0.5 * chroma).astype(np.float32 if kind.bits_per_sample == 32 else np.float16)
    return (noise * ((1 << kind.bits_per_sample) - 1)).astype(np.uint8 if kind.bits_per_sample == 8 else np.uint16)


def clip_of(name: str, **props: Any) -> Any:
    blank = vs.core.std.BlankClip(
        format=getattr(vs, name), width=WIDTH, height=HEIGHT, length=FRAMES, fpsnum=24000, fpsden=1001
    )

    def draw(n: int, f: Any) -> Any:
        out = f.copy()
        for plane in range(out.format.num_planes):
            target = np.asarray(out[plane])
            np.copyto(target, samples(out.format, plane, n, target.shape))
        for key, value in props.items():
            out.props[key] = value
        out.props["number"] = n
        return out

    return vs.core.std.ModifyFrame(blank, blank, draw)


def planes(frame: Any) -> list[np.ndarray]:
    return [np.array(frame[plane]) for plane in range(frame.format.num_planes)]


def by_api(upscaler: Upscaler, given: list[np.ndarray]) -> list[np.ndarray]:
    """Planes of RGB or gray as a user of the Python API would send them."""
    if given[0].dtype.kind == "f":
        return list(upscaler(torch.from_numpy(np.stack(given).clip(-0.5, 2))).numpy())
    if len(given) == 1:
        return [upscaler(given[0])]
    red, green, blue = given
    return [*upscaler(np.dstack([blue, green, red])).transpose(2, 0, 1)[::-1]]


@needs_vapoursynth
@pytest.mark.parametrize("name", ["RGB24", "RGB48", "RGBH", "RGBS", "GRAY8", "GRAY16", "GRAYH", "GRAYS"])
def test_frames_equal_those_of_the_python_api(name: str, upscaler: Upscaler) -> None:
    clip = clip_of(name)
    large = upscale(clip, upscaler)
    assert (large.format.id, large.width, large.height) == (clip.format.id, 2 * WIDTH, 2 * HEIGHT)
    assert (large.num_frames, large.fps) == (FRAMES, Fraction(24000, 1001))
    done = 0
    for n, frame in enumerate(large.frames()):
        for ours, expected in zip(planes(frame), by_api(upscaler, planes(clip.get_frame(n))), strict=True):
            assert ours.dtype == expected.dtype
            assert np.array_equal(ours, expected)
        done += 1
    assert done == FRAMES


@needs_vapoursynth
@pytest.mark.parametrize(
    ("name", "through"),
    [
        ("YUV420P8", "RGB24"),
        ("YUV444P8", "RGB24"),
        ("YUV420P10", "RGB48"),
        ("YUV422P16", "RGB48"),
        ("YUV444PS", "RGBS"),
        ("RGB30", "RGB48"),
        ("GRAY10", "GRAY16"),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_other_formats_are_converted_there_and_back(name: str, through: str, full: bool, upscaler: Upscaler) -> None:
    yuv = name.startswith("YUV")
    clip = clip_of(name, **({"_Matrix": 1, **range_props(full)} if yuv else {}))
    large = upscale(clip, upscaler)
    assert large.format.id == clip.format.id
    # The same by hand: one filter of the API's results between two of VapourSynth's conversions.
    rgb = clip.resize.Bicubic(format=getattr(vs, through))

    def run(n: int, f: list[Any]) -> Any:
        out = f[1].copy()
        for target, values in zip(planes_of(out), by_api(upscaler, planes(f[0])), strict=True):
            np.copyto(target, values)
        return out

    blank = rgb.std.BlankClip(width=2 * WIDTH, height=2 * HEIGHT)
    expected = blank.std.ModifyFrame([rgb, blank], run)
    if yuv:
        expected = expected.resize.Bicubic(format=clip.format.id, matrix=1, range_s="full" if full else "limited")
    else:
        expected = expected.resize.Bicubic(format=clip.format.id)
    for ours, theirs in zip(large.frames(), expected.frames(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(planes(ours), planes(theirs), strict=True))


@needs_vapoursynth
@pytest.mark.parametrize("colour", [(-0.8, 0.5, 0.9), (0.5, 3.0, 0.5)])
def test_colours_that_no_screen_shows_end_no_run(colour: tuple[float, ...], upscaler: Upscaler) -> None:
    """What the API would take for another range than 0..1 is limited."""
    clip = vs.core.std.BlankClip(format=vs.RGBS, width=WIDTH, height=HEIGHT, length=1, color=colour)
    image = torch.tensor(colour).clamp(-0.5, 2).view(3, 1, 1).expand(3, HEIGHT, WIDTH)
    expected = upscaler(image).numpy()
    assert np.array_equal(np.stack(planes(upscale(clip, upscaler).get_frame(0))), expected)


def planes_of(frame: Any) -> list[np.ndarray]:
    return [np.asarray(frame[plane]) for plane in range(frame.format.num_planes)]


def range_props(full: bool) -> dict[str, int]:
    """The property that says the range, by this VapourSynth's name and values."""
    blank = vs.core.std.BlankClip(format=vs.YUV444P8, width=16, height=16, length=1)
    frame = blank.resize.Bicubic(range_in_s="limited", range_s="full" if full else "limited").get_frame(0)
    name = "_Range" if "_Range" in frame.props else "_ColorRange"
    return {name: int(frame.props[name])}


@needs_vapoursynth
@pytest.mark.parametrize("matrix", [None, 1, 6, 9])
@pytest.mark.parametrize("full", [False, True])
def test_a_flat_colour_stays(matrix: int | None, full: bool) -> None:
    """Whatever matrix and range: what goes to RGB comes back. An interpolation stands for the network."""
    from srfast.models import SRVGGNetCompact

    network = SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)  # what remains is its nearest-neighbour base
    blank = vs.core.std.BlankClip(format=vs.YUV420P8, width=16, height=16, length=1, color=[120, 90, 150])
    props = {**range_props(full), **({"_Matrix": matrix} if matrix else {})}
    clip = blank.std.SetFrameProps(**props)
    frame = upscale(clip, Upscaler(network, device="cpu", dtype="fp32")).get_frame(0)
    for plane, value in zip(planes(frame), (120, 90, 150), strict=True):
        assert np.abs(plane.astype(int) - value).max() <= 1
    for key, value in props.items():
        assert frame.props[key] == value


@needs_vapoursynth
@pytest.mark.parametrize("name", ["RGB24", "YUV420P8"])
def test_properties_are_kept(name: str, upscaler: Upscaler) -> None:
    given = {
        "_SARNum": 16,
        "_SARDen": 11,
        "_DurationNum": 1001,
        "_DurationDen": 24000,
        "_AbsoluteTime": 1.5,
        "CropLeftValue": 3,
        "CropTop": 2,
        "_CropRight": 4,
        "note": "text",
        "_SceneChangePrev": 1,
        **({"_Matrix": 6, "_ChromaLocation": 1, "_Primaries": 6, "_Transfer": 6} if name.startswith("YUV") else {}),
    }
    clip = clip_of(name, **given)
    for n, frame in enumerate(upscale(clip, upscaler).frames()):
        expected = {**dict(clip.get_frame(n).props), "CropLeftValue": 6, "CropTop": 4, "_CropRight": 8}
        assert dict(frame.props) == expected
        assert frame.props["number"] == n


@needs_vapoursynth
def test_several_frames_are_in_flight(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two frames are between reading and writing at the same time: each waits there for the other."""
    meeting = threading.Barrier(2, timeout=60)
    fill = _Network._fill

    def wait(self: _Network, frame: Any, out: Any) -> None:
        meeting.wait()
        fill(self, frame, out)

    monkeypatch.setattr(_Network, "_fill", wait)
    assert sum(1 for _ in upscale(clip_of("RGB24"), upscaler).frames()) == FRAMES


@needs_vapoursynth
def test_vspipe(upscaler: Upscaler, tmp_path: Path) -> None:
    """The program that scripts are run by: its Y4M holds the frames of the API."""
    model = save_tiny(tmp_path / "tiny.safetensors")
    script = tmp_path / "script.vpy"
    script.write_text(
        "import vapoursynth as vs\n"
        "from srfast.vapoursynth import upscale\n"
        "clip = vs.core.std.BlankClip(format=vs.YUV444P8, width=26, height=18, length=3, color=[90, 110, 140])\n"
        f"upscale(clip, {model!r}, device='cpu', dtype='fp32').set_output()\n"
    )
    program = Path(vs.__file__).parent / "vspipe"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "XDG_CONFIG_HOME": str(tmp_path),  # where vspipe is told which Python to take
    }
    subprocess.run([sys.executable, "-m", "vapoursynth", "config"], env=environment, check=True, capture_output=True)
    done = subprocess.run(
        [str(program), "-c", "y4m", str(script), "-"], capture_output=True, env=environment, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr.decode()
    head, *rest = done.stdout.split(b"FRAME\n")
    assert b"W52 H36" in head
    assert len(rest) == 3
    clip = vs.core.std.BlankClip(format=vs.YUV444P8, width=26, height=18, length=3, color=[90, 110, 140])
    expected = b"".join(plane.tobytes() for plane in planes(upscale(clip, upscaler).get_frame(0)))
    assert rest[0] == expected


@needs_vapoursynth
def test_clips_that_are_refused(upscaler: Upscaler) -> None:
    with pytest.raises(InputError, match="is interlaced"):
        upscale(clip_of("RGB24", _FieldBased=2), upscaler)
    two = [vs.core.std.BlankClip(format=vs.RGB24, width=w, height=16, length=2) for w in (16, 32)]
    with pytest.raises(InputError, match="several formats or sizes"):
        upscale(vs.core.std.Splice(two, mismatch=True), upscaler)
    with pytest.raises(InputError, match="clips of 32 bits"):
        upscale(vs.core.std.BlankClip(format=vs.GRAY32, width=16, height=16, length=2), upscaler)
    with pytest.raises(InputError, match="for clips of integers"):
        upscale(clip_of("RGBS"), Upscaler(tiny_network(), device="cpu", outscale=3))


@needs_vapoursynth
def test_another_enlargement(upscaler: Upscaler) -> None:
    third = Upscaler(tiny_network(), device="cpu", dtype="fp32", outscale=3)
    clip = clip_of("RGB24", CropLeft=3)
    frame = upscale(clip, third).get_frame(0)
    assert (frame.width, frame.height, frame.props["CropLeft"]) == (3 * WIDTH, 3 * HEIGHT, 9)
    assert np.array_equal(planes(frame)[0], by_api(third, planes(clip.get_frame(0)))[0])


@pytest.mark.skipif(vs is not None, reason="VapourSynth is installed")
def test_without_vapoursynth_its_name_is_said() -> None:
    with pytest.raises(MissingDependencyError, match="pip install vapoursynth"):
        upscale(None)
