"""HDR: the mastering display and the light levels come through, or what is left out is said."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from torch import nn

from srfast.errors import OutputError
from srfast.upscaler import Upscaler
from srfast.video import Encoding, upscale_video
from srfast.video.hdr import Light, light_of, with_light

# P3 primaries, D65; 0.005 to 1000 cd/m2: in units of 0.00002 and 0.0001, as the x265 and x264 options have it.
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
LIGHT = Light(
    primaries=tuple(Fraction(n, 50_000) for n in (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450)),
    luminance=(Fraction(50, 10_000), Fraction(1000)),
    levels=(999, 400),
)


@pytest.fixture
def upscaler(small_network: nn.Module) -> Upscaler:
    return Upscaler(small_network)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hdr") / "in.mkv"
    options = {"x265-params": f"log-level=none:master-display={DISPLAY}:max-cll=999,400", "preset": "ultrafast"}
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx265", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p10le"
        context = video.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, 16
        for i in range(3):
            image = np.full((48, 64, 3), 20_000 + 9_000 * i, np.uint16)
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb48le").reformat(format="yuv420p10le")))
        out.mux(video.encode(None))
    return path


def light(path: Path) -> Light:
    with av.open(str(path)) as c:
        return light_of(next(c.decode(video=0)))


@pytest.mark.parametrize("codec", ["libx265", "libx264", "libsvtav1"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_mastering_data_come_through(
    clip: Path, tmp_path: Path, upscaler: Upscaler, codec: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    assert light(clip) == LIGHT
    target = tmp_path / f"out{suffix}"
    with caplog.at_level(logging.WARNING, "srfast"):
        upscale_video(clip, target, upscaler, encoding=Encoding(codec, options=options))
    found = light(target)
    assert found.levels == LIGHT.levels
    pairs = zip(found.primaries + found.luminance, LIGHT.primaries + LIGHT.luminance, strict=True)
    # AV1 counts in 1/65536 and in 1/256 and 1/16384 cd/m2.
    assert all(abs(a - b) <= (Fraction(1, 16384) if codec == "libsvtav1" else 0) for a, b in pairs)
    assert "mastering" not in caplog.text


@pytest.mark.parametrize("codec", ["prores_ks", "rawvideo"])
def test_what_is_left_out_is_said(
    clip: Path, tmp_path: Path, upscaler: Upscaler, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "srfast"):
        upscale_video(clip, tmp_path / "out.mov", upscaler, encoding=Encoding(codec))
    said = [m for m in caplog.messages if f"{codec} cannot carry the HDR mastering data" in m]
    assert len(said) == 1


def test_hdr_is_not_put_into_eight_bits(clip: Path, tmp_path: Path, upscaler: Upscaler) -> None:
    with pytest.raises(OutputError, match="HDR"):
        upscale_video(clip, tmp_path / "out.mp4", upscaler, encoding=Encoding(pix_fmt="yuv420p"))


def test_given_options_win() -> None:
    given = {"x265-params": "max-cll=1,1:log-level=none"}
    options = with_light("libx265", given, LIGHT)["x265-params"]
    assert options == f"max-cll=1,1:log-level=none:master-display={DISPLAY}"
    assert with_light("libx265", {}, Light()) == {}


def test_dynamic_metadata_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with_light("libx265", {}, Light(dynamic=("Dolby Vision", "HDR10+")))
    assert "Dolby Vision and HDR10+" in caplog.text
