"""What a container, an encoder or a trailer can refuse is refused before the first frame; what is not refused is whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from srfast.cli import main
from srfast.errors import OutputError
from srfast.video import Encoding, upscale_video
from srfast.video.estimate import forecast
from srfast.video.muxer import Muxer
from tests.helpers.video.children import save_tiny, tiny
from tests.helpers.video.gradients import frame_times, leftovers, packets

FRAMES = 8
SOUNDS = (
    *("pcm_s16le", "pcm_f32le", "pcm_u8", "pcm_s16be", "pcm_alaw", "flac", "libopus", "libmp3lame", "ac3", "eac3"),
    *("aac", "alac", "wavpack", "mp2", "tta", "adpcm_ima_wav", "g722"),
)
CONTAINERS = (".mp4", ".mov", ".webm", ".avi", ".ts", ".mkv")
VIDEOS = (
    *("libx264", "libvpx", "libvpx-vp9", "mpeg4", "mpeg2video", "ffv1", "prores_ks", "png", "mjpeg", "qtrle"),
    *("huffyuv", "utvideo", "wmv2", "flv", "msmpeg4", "jpeg2000", "cinepak", "snow"),
)


def clip(path: Path, sound: str | None = None, layout: bool = True) -> Path:
    """Frames and a sound in NUT, which takes any; without ``layout`` in AVI, which tells only how many channels."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25, width=48, height=32, pix_fmt="yuv420p")
        audio = out.add_stream(sound, rate=16_000 if sound == "g722" else 48_000) if sound else None
        if audio is not None:
            audio.layout = "mono" if sound == "g722" else "stereo"
        out.start_encoding()
        for i in range(FRAMES):
            picture = np.full((32, 48, 3), 25 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            _tone(out, audio)
    return path


def _tone(out: Any, audio: Any) -> None:
    context = audio.codec_context
    resampler = av.AudioResampler(context.format, context.layout, context.sample_rate, context.frame_size or 1024)
    samples = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 16_000), np.int16), format="s16", layout="stereo")
    samples.sample_rate, samples.pts = 48_000, 0
    for frame in [*resampler.resample(samples), *resampler.resample(None)]:
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


class Outcomes:
    """Runs combinations; a refusal must come before the first frame, anything else must be whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, tiny()
        self.refused: dict[str, str] = {}
        self.longest = 0.0

    def __call__(self, source: Path, suffix: str, encoding: Encoding | None = None, sound: bool = True) -> None:
        frames: list[int] = []
        target, started = self.folder / f"out{suffix}", time.monotonic()
        name = f"{source.stem} {encoding.codec if encoding else ''} {suffix}"
        said = ""
        try:
            upscale_video(source, target, self.model, encoding=encoding, overwrite=True, on_progress=_note(frames))
        except OutputError as error:
            said = str(error)
        if said:
            assert not frames, f"{name} is refused after {len(frames)} frames: {said}"
            assert leftovers(self.folder) == [source.name]
            self.refused[name] = said
            self.longest = max(self.longest, time.monotonic() - started)
            return
        with av.open(str(target)) as c:
            assert sum(1 for _ in c.decode(video=0)) == FRAMES, name
            assert len(c.streams.audio) == sound, name
        assert not sound or packets(target, "audio"), name
        target.unlink()


def _note(frames: list[int]) -> Callable[[Any], None]:
    return lambda progress: frames.append(progress.done)


@pytest.mark.timeout(7200)
def test_sounds_and_containers(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path)
    for sound in SOUNDS:
        source = clip(tmp_path / f"{sound}{'.mkv' if sound in ('alac', 'tta') else '.nut'}", sound)
        for suffix in CONTAINERS:
            outcomes(source, suffix)
        source.unlink()
    print(f"{len(outcomes.refused)} refused, {outcomes.longest:.2f} s the longest")
    assert len(outcomes.refused) >= 40
    assert all("--no-copy-audio" in said for said in outcomes.refused.values())


@pytest.mark.timeout(7200)
def test_encoders_and_containers(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path)
    source = clip(tmp_path / "in.nut")
    for codec in VIDEOS:
        for suffix in CONTAINERS:
            outcomes(source, suffix, Encoding(codec), sound=False)
    print(f"{len(outcomes.refused)} refused, {outcomes.longest:.2f} s the longest")
    assert len(outcomes.refused) >= 30


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_sound_without_a_layout(tmp_path: Path, suffix: str) -> None:
    """AVI tells two channels; MP4 wants to know which."""
    source = clip(tmp_path / "in.avi", "pcm_s16le")
    with av.open(str(source)) as c:
        assert c.streams.audio[0].layout.name == "2 channels"
    upscale_video(source, tmp_path / f"out{suffix}", tiny())
    with av.open(str(tmp_path / f"out{suffix}")) as c:
        assert c.streams.audio[0].layout.name == "stereo"
        assert sum(frame.samples for frame in c.decode(audio=0)) == 16_000


def test_a_trailer_that_fails_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is refused for the first time when the file is completed."""
    work = Muxer.finish

    def finish(self: Muxer) -> None:
        if self._copies:
            raise av.error.ArgumentError(22, "Invalid argument")
        work(self)

    monkeypatch.setattr(Muxer, "finish", finish)
    source, frames = clip(tmp_path / "in.nut", "aac"), []
    with pytest.raises(OutputError, match=r"\.mkv cannot hold the aac audio stream .*--no-copy-audio"):
        upscale_video(source, tmp_path / "out.mkv", tiny(), on_progress=_note(frames))
    assert not frames and leftovers(tmp_path) == ["in.nut"]
    assert upscale_video(source, tmp_path / "out.mkv", tiny(), copy=()).frames == FRAMES


def test_a_plan_refuses_what_the_run_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clip(tmp_path / "in.nut", "flac")
    with pytest.raises(OutputError, match="cannot hold the flac audio stream"):
        forecast(source, tiny(), suffix=".ts", seconds=0.01)
    assert forecast(source, tiny(), suffix=".ts", seconds=0.01, copy=()).probed >= 3
    model = save_tiny(tmp_path / "model" / "tiny.safetensors")
    assert main(["plan", str(source), "out.webm", "-m", model, "--seconds", "0.01"]) == OutputError.exit_code
    assert "--no-copy-audio" in capsys.readouterr().err


def test_packets_that_a_container_refuses_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are left out, counted and said: the frames are not lost for them."""
    source = clip(tmp_path / "in.nut", "aac")
    number = len(packets(source, "audio"))
    copies: list[int] = []

    def copy(self: Muxer, packet: Any, index: int) -> None:
        if not self._exact:
            copies.append(index)
            if len(copies) == 9:
                packet = av.Packet(b"\xff\xf1" + bytes(3))  # half a header of ADTS
                packet.pts = packet.dts = 8 * 1024
                packet.time_base = Fraction(1, 48_000)
        work(self, packet, index)

    work = Muxer.copy
    monkeypatch.setattr(Muxer, "copy", copy)
    result = upscale_video(source, tmp_path / "out.mp4", tiny())
    assert result.frames == FRAMES
    if result.damage.packets:
        assert "1 packets of the aac audio stream are damaged and left out" in caplog.text
        assert len(packets(tmp_path / "out.mp4", "audio")) == number - 1
    assert len(frame_times(tmp_path / "out.mp4")) == FRAMES


@pytest.mark.parametrize(
    ("suffix", "codec", "says"),
    [
        (".yuv", "ffv1", "takes rawvideo alone"),
        (".rgb", "libx264", "takes rawvideo alone"),
        (".webp", "libvpx-vp9", "takes libwebp alone"),
        (".webp", "png", "takes libwebp alone"),
        (".apng", "libx264", "takes png alone"),
        (".mkv", "aac", "encodes audio, not video"),
        (".mp4", "subrip", "encodes subtitle, not video"),
    ],
)
def test_encoders_that_an_output_cannot_be_read_with(tmp_path: Path, suffix: str, codec: str, says: str) -> None:
    """Those writers take the packets of any encoder; what they would make of them is no file that anything reads."""
    source = clip(tmp_path / "in.nut")
    with pytest.raises(OutputError, match=says):
        upscale_video(source, tmp_path / f"out{suffix}", tiny(), encoding=Encoding(codec))
    assert leftovers(tmp_path) == ["in.nut"]
