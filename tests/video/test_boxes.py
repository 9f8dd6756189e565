"""Headers of MP4 files that contradict themselves."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest

from srfast.video import upscale_video
from srfast.video.boxes import boxes, inside, outlasts_itself
from tests.helpers.video.children import tiny
from tests.helpers.video.gradients import make_clip

FRAMES = 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty frames of 40 ms, the first of which decodes before time 0: the edit list shows 2.4 s from there."""
    path = tmp_path_factory.mktemp("boxes") / "in.mp4"
    return make_clip(path, [40 * i for i in range(FRAMES)], size=(96, 64), audio=True, options={"crf": "20", "g": "12"})


def with_step(clip: Path, target: Path, times: float) -> Path:
    """The file with another distance between its frames in the table of times, and nowhere else."""
    data = bytearray(clip.read_bytes())
    at = data.index(b"stts") + 16  # kind, version, number of entries, count of the first
    (step,) = struct.unpack_from(">I", data, at)
    struct.pack_into(">I", data, at, int(step * times))
    target.write_bytes(data)
    return target


def track_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.video[0].id


# A little longer, so that a few frames are hidden; twice; and as one flipped bit makes it.
@pytest.mark.parametrize("times", [1.1, 1.5, 2, 1639.4])
def test_frames_behind_damaged_times_are_not_lost_in_silence(clip: Path, tmp_path: Path, times: float) -> None:
    source = with_step(clip, tmp_path / "in.mp4", times)
    assert outlasts_itself(str(source), track_of(source))
    result = upscale_video(source, tmp_path / "out.mkv", tiny())
    assert result.frames < FRAMES
    assert result.damage.lost == FRAMES - result.frames


def test_a_file_that_is_whole_says_one_thing(clip: Path, tmp_path: Path) -> None:
    assert not outlasts_itself(str(clip), track_of(clip))
    result = upscale_video(clip, tmp_path / "out.mkv", tiny())
    assert result.frames == FRAMES
    assert not result.damage


def test_frames_that_an_edit_list_hides_are_not_missed(clip: Path, tmp_path: Path) -> None:
    """Its length in the edit list is a third: an editor has cut the end off."""
    data = bytearray(clip.read_bytes())
    at = data.index(b"elst") + 12
    (length,) = struct.unpack_from(">I", data, at)
    struct.pack_into(">I", data, at, length // 3)
    source = tmp_path / "in.mp4"
    source.write_bytes(data)
    result = upscale_video(source, tmp_path / "out.mkv", tiny())
    assert 18 <= result.frames <= 22
    assert not result.damage


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


@pytest.mark.parametrize(
    ("length", "outlasts"),
    [((60 << 30) - 1, True), (60 << 30, False), (61 << 30, False), (0, False)],  # 0 says nothing
)
def test_wide_headers(tmp_path: Path, length: int, outlasts: bool) -> None:
    """Version 1, with times of more than 32 bits: the last of 61 frames begins after 60 steps."""
    head = box(b"tkhd", b"\1" + bytes(19) + struct.pack(">I", 7) + bytes(8))
    clock = box(b"mdhd", b"\1" + bytes(23) + struct.pack(">Q", length))
    times = box(b"stts", bytes(4) + struct.pack(">IIIII", 2, 60, 1 << 30, 1, 1 << 30))
    track = box(b"trak", head + box(b"mdia", clock + box(b"minf", box(b"stbl", times))))
    path = tmp_path / "a.mp4"
    path.write_bytes(box(b"ftyp", b"isom") + box(b"moov", track))
    assert outlasts_itself(str(path), 7) == outlasts
    assert not outlasts_itself(str(path), 8)


def test_boxes_that_end_early_end() -> None:
    assert list(boxes(b"\0\0\0\4abcdefgh")) == [(b"abcd", b"")]
    assert inside(box(b"a   ", box(b"b   ", b"c")), b"a   ", b"b   ") == b"c"
    assert inside(b"\0\0\1\0abcdrest", b"abcd", b"none") == b""
