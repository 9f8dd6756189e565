"""Damaged input: no crash, no hang, no loss that is not told."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import av
import pytest
import torch

from srfast.cli import main
from srfast.errors import FrameLossError, InputError, SrfastError
from srfast.models import SRVGGNetCompact
from srfast.upscaler import Upscaler
from srfast.video import VideoResult, upscale_video
from srfast.video.damage import Damage, Expected, Steps
from srfast.video.matroska import missing_bytes
from tests.helpers.video.children import start, tiny
from tests.helpers.video.gradients import UNEVEN, make_clip

FRAMES = 60
SILENT, TOLD, REFUSED, SAME = "silent", "told", "refused", "same"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("damage")
    times = [40 * i for i in range(FRAMES)]
    options = {"crf": "20", "g": "12"}
    return [
        make_clip(folder / f"in{s}", times, size=(96, 64), audio=True, options=options)
        for s in (".mp4", ".mkv", ".mov")
    ]


def mutated(data: bytes, kind: str, chance: random.Random) -> bytes:
    """One damage of the given kind."""
    size = len(data)
    if kind == "truncated":
        return data[: chance.randrange(size // 10, size)]
    out = bytearray(data)
    if kind == "flipped":
        for _ in range(chance.randint(1, 40)):
            out[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif kind == "zeroed":
        start = chance.randrange(size)
        out[start : start + chance.randint(16, 4000)] = bytes(min(chance.randint(16, 4000), size - start))
    elif kind == "swapped":
        length = chance.randint(64, 1500)
        a, b = sorted((chance.randrange(size - length), chance.randrange(size - length)))
        if b - a >= length:
            out[a : a + length], out[b : b + length] = out[b : b + length], out[a : a + length]
    elif kind == "removed":
        start = chance.randrange(size)
        del out[start : start + chance.randint(16, 3000)]
    return bytes(out)


KINDS = ("truncated", "flipped", "zeroed", "swapped", "removed")


def outcome(source: Path, target: Path, upscaler: Upscaler) -> str:
    """Runs one damaged file; SILENT is what must not be."""
    target.unlink(missing_ok=True)
    try:
        result: VideoResult = upscale_video(source, target, upscaler, overwrite=True)
    except SrfastError:
        return SILENT if target.exists() else REFUSED
    if result.damage or result.damage.gaps:
        return TOLD
    return SAME if result.frames == FRAMES else SILENT


def campaign(clips: list[Path], folder: Path, upscaler: Upscaler, count: int) -> dict[str, int]:
    """Runs ``count`` mutations, each at its end after half a minute of computing: what waits for ever ends the test."""
    chance = random.Random(count)
    counts = dict.fromkeys((SILENT, TOLD, REFUSED, SAME), 0)
    for number in range(count):
        clip = clips[number % len(clips)]
        kind = KINDS[number // len(clips) % len(KINDS)]
        source = folder / f"damaged{clip.suffix}"
        source.write_bytes(mutated(clip.read_bytes(), kind, chance))
        started = time.process_time()
        result = outcome(source, folder / f"out{clip.suffix}", upscaler)
        assert time.process_time() - started < 30, f"{kind} number {number} took too long"
        counts[result] += 1
        if result == SILENT:
            (folder / f"silent-{number}-{kind}{clip.suffix}").write_bytes(source.read_bytes())
            print(f"silent: number {number}, {kind}, {clip.suffix}")
    return counts


def in_child(clips: list[Path], folder: Path, count: int) -> None:
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = campaign(clips, folder, tiny(), count)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    (folder / "counts.txt").write_text(f"{counts}, {grown} MiB more memory")
    raise SystemExit(0 if counts[SILENT] == 0 and grown < 1024 else 2)


@pytest.mark.parametrize("count", [30, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_mutations(clips: list[Path], tmp_path: Path, count: int) -> None:
    """In a process of its own, so that a crash of a decoder would be a failure and not the end of the tests."""
    process = start(in_child, clips, tmp_path, count)
    process.join()
    said = (tmp_path / "counts.txt").read_text() if (tmp_path / "counts.txt").exists() else "no counts"
    print(said)
    assert process.exitcode == 0, f"exit {process.exitcode}: {said}"


def test_the_command_tells_loss(clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from srfast.checkpoint import save_checkpoint

    torch.manual_seed(0)
    model = tmp_path / "tiny.safetensors"
    save_checkpoint(SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2), model)
    data = bytearray(clips[1].read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    source.write_bytes(data)
    report = tmp_path / "run.json"
    arguments = ["upscale", str(source), str(target), "-m", str(model), "--report", str(report)]
    assert main(arguments) == FrameLossError.exit_code
    assert "the input was damaged" in capsys.readouterr().err
    assert target.exists()
    assert '"damage"' in report.read_text()
    assert main([*arguments, "-y", "--strict"]) in (InputError.exit_code, FrameLossError.exit_code)
    assert main(["upscale", str(clips[1]), str(tmp_path / "good.mkv"), "-m", str(model)]) == 0


def test_expected_frames() -> None:
    expected = Expected()
    expected.packet(0, keyframe=False)  # before the first key frame: never whole
    for pts in range(40, 40 * 101, 40):
        expected.packet(pts, keyframe=pts == 40)
        if pts != 400:
            expected.frame(pts)
    assert list(expected.missing()) == [400]
    assert list(expected.missing(end=True)) == []


def test_steps() -> None:
    steady, uneven = Steps(), Steps()
    for i in range(50):
        steady.add(40 if i != 20 else 120)
        uneven.add((33, 40, 100)[i % 3])
    assert (steady.gaps(), uneven.gaps(), Steps().gaps()) == (2, 0, 0)


def test_damage_in_words() -> None:
    damage = Damage()
    assert not damage
    damage.add("lost", 1.5, 3)
    damage.add("concealed", None)
    assert str(damage) == "1 frames with concealed errors, 3 frames lost (at 1.50 s)"


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize("kind", ["cut before it", "cut inside it", "zeroed", "its element zeroed"])
def test_the_last_frame_is_missed(tmp_path: Path, steady: bool, kind: str) -> None:
    """Counted where the steps of the times tell that it was one; at an uneven rate, told."""
    clip = make_clip(tmp_path / "whole.mkv", [40 * i for i in range(30)] if steady else UNEVEN, options={"bf": "0"})
    with av.open(str(clip)) as c:
        *_, (start, size) = ((p.pos, p.size) for p in c.demux(video=0) if p.size)
    data = clip.read_bytes()
    element = data.rindex(b"\xa3", 0, start)
    (tmp_path / "in.mkv").write_bytes(
        {
            "cut before it": data[:element],
            "cut inside it": data[: start + size // 2],
            "zeroed": data[:start] + bytes(size) + data[start + size :],
            "its element zeroed": data[:element] + bytes(start + size - element) + data[start + size :],
        }[kind]
    )
    result = upscale_video(tmp_path / "in.mkv", tmp_path / "out.mkv", tiny())
    assert result.damage
    assert result.damage.lost == steady
    assert result.frames == (29 if steady else len(UNEVEN) - 1)


def test_missing_bytes(clips: list[Path], tmp_path: Path) -> None:
    whole = clips[1].read_bytes()
    cut = tmp_path / "cut.mkv"
    for size, expected in (
        (len(whole), 0),
        (len(whole) - 1, 1),
        (len(whole) // 2, len(whole) - len(whole) // 2),
        (3, 0),
    ):
        cut.write_bytes(whole[:size])
        assert missing_bytes(cut) == expected
    assert missing_bytes(clips[0]) == 0
