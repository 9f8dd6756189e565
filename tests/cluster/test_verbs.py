"""Split, segment and join on the CPU in float32: what a single run gives, bit for bit, whatever the input's structure."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import av
import pytest

from srfast import cluster
from srfast.cluster.cutting import cut
from srfast.errors import OutputError
from srfast.video import InputOptions
from srfast.video.reader import VideoReader
from tests.helpers.video.children import save_tiny
from tests.helpers.video.segments import assert_same, content, in_one_run, in_segments, moving_clip, on_one_thread

UNEVEN = [40, 33, 90, 20, 41]
X264 = {
    "closed": {"x264-params": "scenecut=0"},
    "open": {"x264-params": "open-gop=1:scenecut=0:bframes=3:b-pyramid=normal"},
    "intra-refresh": {"x264-params": "intra-refresh=1:keyint=10:scenecut=0"},
}
# Name, codec, suffix, further arguments of the clip, whether it is cut.
CASES = [
    ("closed", "libx264", ".mp4", {"options": X264["closed"]}, True),
    ("open", "libx264", ".mkv", {"options": X264["open"]}, True),
    ("open in TS", "libx264", ".ts", {"options": X264["open"]}, True),
    ("refresh", "libx264", ".mkv", {"options": X264["intra-refresh"]}, True),
    ("uneven", "libx264", ".mkv", {"options": X264["open"], "step": UNEVEN}, True),
    (
        "hevc",
        "libx265",
        ".mkv",
        {"options": {"x265-params": "open-gop=1:keyint=10:min-keyint=10:log-level=none"}},
        True,
    ),
    ("mpeg2", "mpeg2video", ".ts", {"bframes": 2}, True),
    ("vp9", "libvpx-vp9", ".webm", {"options": {"auto-alt-ref": "1", "lag-in-frames": "12"}, "bframes": 0}, True),
    ("beside", "libx264", ".mp4", {"options": X264["open"], "beside": True}, True),
    ("beside in Matroska", "libx264", ".mkv", {"options": X264["open"], "beside": True}, True),
    ("avi", "mpeg4", ".avi", {"bframes": 2}, False),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.pth")


@pytest.mark.parametrize(("codec", "suffix", "given", "is_cut"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_segments_give_what_a_single_run_gives(
    tmp_path: Path, model: str, codec: str, suffix: str, given: dict, is_cut: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "srfast")
    clip = moving_clip(tmp_path / f"in{suffix}", codec, **given)
    whole = in_one_run(clip, tmp_path / "whole.mkv", model)
    plan = in_segments(clip, tmp_path, tmp_path / "joined.mkv", model)
    assert (len(plan.segments) > 2) == is_cut
    assert not whole.damage
    assert plan.frames == whole.frames == 60
    assert_same(tmp_path / "joined.mkv", tmp_path / "whole.mkv")
    assert "its index does not lead" not in caplog.text  # each segment is read from its own place


PQ = (9, 1, 9, 16)
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR = {"x265-params": f"open-gop=1:keyint=10:min-keyint=10:log-level=none:master-display={DISPLAY}:max-cll=1000,400"}
DEEP = [
    ("PQ", "libx265", ".mkv", {"pix_fmt": "yuv420p10le", "colour": PQ, "options": HDR}, "yuv420p10le"),
    ("PQ in MP4", "libx265", ".mp4", {"pix_fmt": "yuv420p10le", "colour": PQ, "options": HDR}, "yuv420p10le"),
    ("alpha", "libvpx-vp9", ".webm", {"pix_fmt": "yuva420p", "bframes": 0}, "yuva420p"),
    ("alpha of 10 bits", "ffv1", ".mkv", {"pix_fmt": "yuva420p10le", "bframes": 0}, "yuva420p10le"),
]


def colour_of(path: Path) -> tuple[int, ...]:
    """FFmpeg's numbers of matrix, range, primaries and transfer."""
    with av.open(str(path)) as c:
        context = c.streams.video[0].codec_context
        return context.colorspace, context.color_range, context.color_primaries, context.color_trc


@pytest.mark.parametrize(("codec", "suffix", "given", "pix_fmt"), [c[1:] for c in DEEP], ids=[c[0] for c in DEEP])
def test_segments_of_hdr_and_alpha(
    tmp_path: Path, model: str, codec: str, suffix: str, given: dict, pix_fmt: str
) -> None:
    clip = moving_clip(tmp_path / f"in{suffix}", codec, **given)
    in_one_run(clip, tmp_path / "whole.mkv", model)
    plan = in_segments(clip, tmp_path, tmp_path / "joined.mkv", model)
    assert len(plan.segments) > 2 and plan.frames == 60
    assert_same(tmp_path / "joined.mkv", tmp_path / "whole.mkv")
    assert {frame[1] for frame in content(tmp_path / "joined.mkv")["frames"]} == {pix_fmt}
    assert colour_of(tmp_path / "joined.mkv") == colour_of(tmp_path / "whole.mkv")
    assert codec != "libx265" or colour_of(tmp_path / "joined.mkv") == PQ


def damage_visibly(clip: Path, where: float, key: bool) -> None:
    """Overwrites a part of the first packet from ``where`` on in which the decoder notices it: many bytes make a picture, too."""
    healthy = clip.read_bytes()
    with av.open(str(clip)) as c:
        places = [(p.pos, p.size, p.is_keyframe) for p in c.demux(video=0) if p.size]
    for at, size, is_key in places[int(where * len(places)) :]:
        data = bytearray(healthy)
        data[at + size // 3 : at + size // 2] = b"\x55" * (size // 2 - size // 3)
        clip.write_bytes(data)
        if is_key == key and any(frame.is_corrupt for frame in on_one_thread(clip)):
            return
    raise AssertionError("the decoder notices none of it")


@pytest.mark.parametrize(
    ("suffix", "where", "key"),
    [(".mp4", 0.5, True), (".mp4", 0.8, False), (".mkv", 0.3, True), (".mkv", 0.4, False), (".mkv", 0.6, True)],
)
def test_segments_of_a_damaged_source(tmp_path: Path, model: str, suffix: str, where: float, key: bool) -> None:
    """A part of one packet is overwritten; what the decoder makes of it is the same in a segment as in the whole."""
    clip = moving_clip(tmp_path / f"in{suffix}", options=X264["closed"])
    damage_visibly(clip, where, key)
    whole = in_one_run(clip, tmp_path / "whole.mkv", model)
    assert whole.damage
    plan = in_segments(clip, tmp_path, tmp_path / "joined.mkv", model)
    assert_same(tmp_path / "joined.mkv", tmp_path / "whole.mkv")
    segments = cluster.segments_folder(tmp_path / "joined.json")
    again = cluster.join(plan, segments, tmp_path / "again.mkv", plan.upscaler()).result
    assert again.frames == whole.frames
    for name in ("packets", "concealed", "lost", "gaps", "jumps"):
        assert getattr(again.damage, name) == getattr(whole.damage, name), name


def test_the_comparison_sees_a_frame_that_differs(tmp_path: Path, model: str) -> None:
    clip = moving_clip(tmp_path / "in.mkv", options=X264["open"])
    other = moving_clip(tmp_path / "other.mkv", options=X264["open"], frames=61)
    for path in (clip, other):
        in_one_run(path, tmp_path / f"{path.stem}.out.mkv", model)
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "in.out.mkv", tmp_path / "other.out.mkv")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_outputs_with_b_frames_have_all_frames_at_their_times(tmp_path: Path, model: str, suffix: str) -> None:
    clip = moving_clip(tmp_path / "in.mkv", options=X264["open"], beside=suffix != ".ts")
    encoding = {"encoding": None}
    in_segments(clip, tmp_path, tmp_path / f"joined{suffix}", model, **encoding)
    in_one_run(clip, tmp_path / f"whole{suffix}", model, **encoding)
    joined, whole = content(tmp_path / f"joined{suffix}"), content(tmp_path / f"whole{suffix}")
    assert [f[0] for f in joined["frames"]] == [f[0] for f in whole["frames"]]
    assert joined["packets"] == whole["packets"] and joined["chapters"] == whole["chapters"]
    assert all(a < b for a, b in zip(joined["decoding"], joined["decoding"][1:], strict=False))


def test_a_range_of_times_in_segments(tmp_path: Path, model: str) -> None:
    clip = moving_clip(tmp_path / "in.mkv", options=X264["open"], beside=True)
    reading = {"input_options": InputOptions(start=0.53, end=2.01)}
    plan = in_segments(clip, tmp_path, tmp_path / "joined.mkv", model, seconds=0.3, **reading)
    result = in_one_run(clip, tmp_path / "whole.mkv", model, **reading)
    assert len(plan.segments) > 2 and plan.frames == result.frames < 60
    assert_same(tmp_path / "joined.mkv", tmp_path / "whole.mkv")


def test_cuts_are_key_frames_at_least_as_far_apart(tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "in.mp4", options=X264["closed"], gop=10)
    with VideoReader(clip) as reader:
        segments, whole = cut(reader, 0.5)  # 13 frames: every second key frame
        base = reader.time_base
    assert whole is None
    assert [segment.frames for segment in segments] == [20, 20, 20]
    assert [segment.first and float(segment.first * base) for segment in segments] == [None, 0.8, 1.6]
    assert [segment.last for segment in segments] == [segment.first for segment in segments[1:]] + [None]
    with VideoReader(clip) as reader:
        assert len(cut(reader, 10.0)[0]) == 1


def test_a_full_disk_is_said_as_of_a_single_run(tmp_path: Path, model: str) -> None:
    clip = moving_clip(tmp_path / "in.mkv", options=X264["closed"])
    plan = in_segments(clip, tmp_path, tmp_path / "joined.mkv", model)
    folder = next(tmp_path.glob("*.segments"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "joined.mkv").stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot write the output: File too large"):
            cluster.join(plan, folder, tmp_path / "again.mkv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "again.mkv").exists()
