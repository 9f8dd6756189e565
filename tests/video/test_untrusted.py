"""Videos from strangers: nothing but the one file is read, and limits hold before anything is decoded. CPU, uint8 frames."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

import srfast.video.untrusted as untrusted
from srfast.errors import InputError
from srfast.video import InputOptions
from srfast.video.reader import RgbFrame, VideoReader
from srfast.video.untrusted import Limits
from tests.helpers.hostile.uploads import ATTACKS, Attack, Canaries, canaries, clip

STRANGER = InputOptions(untrusted=Limits())
# What FFmpeg does without fences, so that the canaries are known to sing; the others need a library that it may lack.
SINGING = {"hls-file", "hls-address", "concat-script", "mov-reference"}
UNFENCED = {"protocol_whitelist": "file,http,tcp,crypto,concat,udp,rtp", "safe": "0", "enable_drefs": "1"} | {
    "use_absolute_path": "1",
    "allowed_extensions": "ALL",
    "extension_picky": "0",
}


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canaries]:
    with canaries(tmp_path / "canaries") as made:
        yield made


def upload(attack: Attack, canary: Canaries, folder: Path) -> Path:
    path = folder / "upload"
    path.write_bytes(attack.make(canary, folder))
    canary.touched()  # what making it touched
    return path


def read_all(path: Path, options: InputOptions) -> int:
    with VideoReader(path, options) as reader:
        return sum(isinstance(item, RgbFrame) for item in reader.items(reader.copied_streams))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_upload_reads_no_other_file_and_no_address(attack: Attack, canary: Canaries, tmp_path: Path) -> None:
    path = upload(attack, canary, tmp_path)
    with contextlib.suppress(InputError):
        read_all(path, STRANGER)
    assert canary.touched() == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("fence", ["containers", "protocols"])
def test_the_other_fences_hold_where_one_falls(
    fence: str, attack: Attack, canary: Canaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = tuple(name.split(",")[0] for name in av.formats_available)
    if fence == "containers":
        monkeypatch.setattr(untrusted, "CONTAINERS", everything)
    else:
        monkeypatch.setattr(untrusted, "_NO_PROTOCOL", UNFENCED["protocol_whitelist"])
    path = upload(attack, canary, tmp_path)
    with contextlib.suppress(InputError, PermissionError):
        read_all(path, STRANGER)
    assert canary.touched() == []


@pytest.mark.parametrize("name", sorted(SINGING))
def test_the_canaries_sing_where_no_fence_stands(name: str, canary: Canaries, tmp_path: Path) -> None:
    attack = next(attack for attack in ATTACKS if attack.name == name)
    path = upload(attack, canary, tmp_path)
    path = path.rename(path.with_suffix(".m3u8") if name.startswith("hls") else path)
    with contextlib.suppress(InputError):
        read_all(path, InputOptions(options=UNFENCED))
    assert canary.touched() != []


def test_a_link_to_a_pipe_or_a_folder_is_no_upload(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(InputError, match=r"not a file|missing"):
            VideoReader(name, STRANGER)
    for name in ("-", "http://127.0.0.1:9/x.mp4", f"{tmp_path}/%05d.png"):
        with pytest.raises(InputError, match="missing"):
            VideoReader(name, STRANGER)


def test_a_size_in_the_header_is_named(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.y4m", "rawvideo")
    with pytest.raises(InputError, match=r"48x32 pixels, more than the 1535|more than 1535 pixels"):
        VideoReader(path, InputOptions(untrusted=Limits(pixels=48 * 32 - 1)))


def test_frames_are_those_of_a_trusted_reading(tmp_path: Path) -> None:
    for suffix, codec in (
        (".mp4", "mpeg4"),
        (".mkv", "mpeg4"),
        (".avi", "mpeg4"),
        (".nut", "mpeg4"),
        (".y4m", "rawvideo"),
    ):
        path = clip(tmp_path / f"clip{suffix}", codec)
        images = []
        for options in (InputOptions(), STRANGER):
            with VideoReader(path, options) as reader:
                images.append([item.image.tobytes() for item in reader.items([]) if isinstance(item, RgbFrame)])
        assert len(images[0]) == 3
        assert images[0] == images[1]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(pixels=48 * 32 - 1), "more than 1535 pixels"),
        (Limits(seconds=0.1), "longer than 0.1 s"),
        (Limits(frames=2), "more than 2 frames"),
    ],
)
def test_headers_are_held_to_the_limits_before_anything_is_decoded(
    limits: Limits, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*args: Any) -> Any:
        raise AssertionError("something was decoded")

    path = clip(tmp_path / "clip.mp4")
    monkeypatch.setattr("srfast.video.decoding.Decoding._decode", decode)
    with pytest.raises(InputError, match=said):
        VideoReader(path, InputOptions(untrusted=limits))


def test_a_header_that_lies_is_found_out_while_reading(tmp_path: Path) -> None:
    """Y4M tells neither its length nor its frames, and a picture in an MP4 can be larger than its header says."""
    path = clip(tmp_path / "clip.y4m", "rawvideo", frames=5)
    with pytest.raises(InputError, match="more than 4 frames"):
        read_all(path, InputOptions(untrusted=Limits(frames=4)))
    with pytest.raises(InputError, match=r"longer than 0\.1 s"):
        read_all(path, InputOptions(untrusted=Limits(seconds=0.1)))
    assert read_all(path, InputOptions(untrusted=Limits(frames=5, seconds=0.2))) == 5
    path = clip(tmp_path / "clip.avi", "mjpeg", frames=3, size=(640, 480))
    data = path.read_bytes().replace(struct.pack("<II", 640, 480), struct.pack("<II", 64, 48))
    path.write_bytes(data)
    with pytest.raises(InputError):  # 64x48 by its header: the decoder refuses what comes
        read_all(path, InputOptions(untrusted=Limits(pixels=64 * 48)))


def test_limits_and_options_are_checked() -> None:
    for name in ("pixels", "seconds", "frames"):
        with pytest.raises(ValueError, match=name):
            Limits(**{name: 0})
    for options in ({"format": "hls"}, {"options": {"safe": "0"}}, {"hwaccel": "cuda"}):
        with pytest.raises(ValueError, match="content alone"):
            InputOptions(untrusted=Limits(), **options)
