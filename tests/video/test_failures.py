"""Bad inputs, bad outputs and ends in the middle: one error that says why, and nothing left behind."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import av
import pytest
from torch import nn

from srfast.errors import FrameLossError, InputError, OutputError
from srfast.upscaler import Upscaler
from srfast.video import Encoding, InputOptions, hardware, upscale_video
from tests.helpers.video.gradients import STEADY, frame_times, leftovers, make_clip


@pytest.fixture
def upscaler(small_network: nn.Module) -> Upscaler:
    return Upscaler(small_network)


@pytest.mark.parametrize("content", [b"", b"this is no video\n" * 50])
def test_what_is_no_video(tmp_path: Path, upscaler: Upscaler, content: bytes) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"in\.mp4 is"):
        upscale_video(source, tmp_path / "out.mp4", upscaler)
    assert leftovers(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("faststart", [False, True])
@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_truncated_file(tmp_path: Path, upscaler: Upscaler, faststart: bool, keep: float) -> None:
    whole = make_clip(tmp_path / "whole.mp4", [40 * i for i in range(60)], size=(320, 240))
    source = tmp_path / "in.mp4"
    with (
        av.open(str(whole)) as c,
        av.open(str(source), "w", options={"movflags": "faststart"} if faststart else {}) as out,
    ):
        video = out.add_stream_from_template(c.streams.video[0])
        for packet in c.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises((InputError, FrameLossError), match=r"in\.mp4"):
        upscale_video(source, tmp_path / "out.mp4", upscaler, strict=True)
    assert leftovers(tmp_path) == ["in.mp4", "whole.mp4"]
    if faststart:
        result = upscale_video(source, tmp_path / "out.mp4", upscaler)
        assert result.frames + result.damage.lost == 60
        assert result.frames > 45 * keep
    else:  # without its index nothing can be read
        with pytest.raises(InputError, match=r"in\.mp4"):
            upscale_video(source, tmp_path / "out.mp4", upscaler)


def test_damaged_file(tmp_path: Path, upscaler: Upscaler) -> None:
    source = make_clip(tmp_path / "in.mp4", [40 * i for i in range(60)], size=(320, 240))
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    source.write_bytes(data)
    with pytest.raises((InputError, FrameLossError), match=r"in\.mp4"):
        upscale_video(source, tmp_path / "out.mp4", upscaler, strict=True)
    assert leftovers(tmp_path) == ["in.mp4"]
    result = upscale_video(source, tmp_path / "out.mp4", upscaler)
    assert result.damage
    assert result.frames + result.damage.lost == 60


def test_existing_output_is_safe(tmp_path: Path, upscaler: Upscaler) -> None:
    source = make_clip(tmp_path / "in.mp4", STEADY)
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        upscale_video(source, target, upscaler)
    assert target.read_bytes() == b"precious"
    with pytest.raises(OutputError, match="is the input itself"):
        upscale_video(source, source, upscaler, overwrite=True)
    source.with_name("broken.mp4").write_bytes(b"x")
    with pytest.raises(InputError):
        upscale_video(source.with_name("broken.mp4"), target, upscaler, overwrite=True)
    assert target.read_bytes() == b"precious"
    upscale_video(source, target, upscaler, overwrite=True)
    assert frame_times(target) == frame_times(source)


@pytest.mark.parametrize(
    ("name", "encoding", "says"),
    [
        ("out.xyz", Encoding(), "use one of .mp4"),
        ("out.mp4", Encoding("no_such_encoder"), "no encoder called 'no_such_encoder'"),
        ("out.mp4", Encoding(pix_fmt="rgb565le"), "refuses"),
        ("missing/out.mp4", Encoding(), "does not exist"),
    ],
)
def test_bad_outputs(tmp_path: Path, upscaler: Upscaler, name: str, encoding: Encoding, says: str) -> None:
    source = make_clip(tmp_path / "in.mp4", STEADY)
    with pytest.raises(OutputError, match=says):
        upscale_video(source, tmp_path / name, upscaler, encoding=encoding)
    assert leftovers(tmp_path) == ["in.mp4"]


def test_odd_size_is_refused_before_the_work(tmp_path: Path, small_network: nn.Module) -> None:
    source = make_clip(tmp_path / "in.mp4", STEADY)
    with pytest.raises(OutputError, match=r"even width, not 73"):
        upscale_video(source, tmp_path / "out.mp4", Upscaler(small_network, outscale=73 / 48))


def test_interrupt_leaves_nothing(tmp_path: Path, upscaler: Upscaler) -> None:
    source = make_clip(tmp_path / "in.mp4", STEADY)

    def interrupt(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, tmp_path / "out.mp4", upscaler, on_progress=interrupt)
    assert leftovers(tmp_path) == ["in.mp4"]


def test_full_disk(tmp_path: Path) -> None:
    """A limit on file size stands for a full disk: writes fail in the middle of the run."""
    source = make_clip(tmp_path / "in.mp4", [40 * i for i in range(40)], size=(320, 240))
    script = (
        "import sys, torch; from srfast.models import SRVGGNetCompact; from srfast import Upscaler, upscale_video\n"
        "from srfast.errors import OutputError\n"
        "torch.manual_seed(0)\n"
        "model = Upscaler(SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2))\n"
        "try:\n    upscale_video(sys.argv[1], sys.argv[2], model)\n"
        "except OutputError as error:\n    print(error); sys.exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(tmp_path / "out.mp4")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == OutputError.exit_code, done.stderr
    assert "cannot write" in done.stdout
    assert leftovers(tmp_path) == ["in.mp4"]


def test_hardware_decoders(tmp_path: Path, upscaler: Upscaler, caplog: pytest.LogCaptureFixture) -> None:
    """An unknown one is refused; one that does not open here is replaced by software, and said once for all openings."""
    source = make_clip(tmp_path / "in.mp4", STEADY)
    with pytest.raises(InputError, match="no hardware decoder is called 'foo'; this FFmpeg"):
        upscale_video(source, tmp_path / "out.mkv", upscaler, input_options=InputOptions(hwaccel="foo"))
    if "cuda" not in av.codec.hwaccel.hwdevices_available():
        pytest.skip("this FFmpeg was built without CUDA")
    hardware._opens.cache_clear()
    for _ in range(2):
        options = InputOptions(hwaccel="cuda")
        assert upscale_video(source, tmp_path / "out.mkv", upscaler, overwrite=True, input_options=options).frames == 12
    assert caplog.text.count("hardware decoder cuda does not open here") == (not hardware._opens(av, "cuda"))
