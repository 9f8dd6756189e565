"""A run that ends anyhow continues, and its frames are those of a run that was never interrupted."""

from __future__ import annotations

import json
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from srfast.errors import FrameLossError, InputError, OutputError
from srfast.kernels.cpu import instruction_sets
from srfast.models import SRVGGNetCompact
from srfast.upscaler import Upscaler
from srfast.video import Encoding, upscale_video
from srfast.video.journal import journal_path
from srfast.video.reader import Item, RgbFrame
from srfast.video.source import InputOptions
from srfast.video.upscale_stage import NetworkStage
from tests.helpers.video.children import SEGMENT, stand_at, start, tiny, tiny_network, upscale
from tests.helpers.video.gradients import frame_times, leftovers, make_clip, packets

FRAMES = 40


def frames_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as c:
        return [f.to_ndarray(format="rgb24").tobytes() for f in c.decode(video=0)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uneven = [40 * i + (7 * i * i) % 23 for i in range(FRAMES)]
    return make_clip(tmp_path_factory.mktemp("resume") / "in.mkv", uneven, size=(64, 48), audio=True)


@pytest.fixture(scope="module")
def whole(clip: Path) -> Path:
    target = clip.with_name("whole.mkv")
    upscale_video(clip, target, tiny(), segment=SEGMENT)
    return target


def interrupt_at(frame: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[object], None]:
    def stop(progress: object) -> None:
        if progress.done >= frame:
            raise error

    return stop


def interrupted(
    clip: Path,
    target: Path,
    after: int,
    error: type[BaseException] = KeyboardInterrupt,
    overwrite: bool = False,
) -> None:
    with pytest.raises(error):
        upscale_video(
            clip, target, tiny(), segment=SEGMENT, overwrite=overwrite, on_progress=interrupt_at(after, error)
        )


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("after", [13, FRAMES])
def test_interrupted_and_continued(tmp_path: Path, clip: Path, whole: Path, suffix: str, after: int) -> None:
    target = tmp_path / f"out{suffix}"
    interrupted(clip, target, after)
    assert leftovers(tmp_path) == [f".out{suffix}.srfast-journal"]
    with pytest.raises(OutputError, match="--resume to continue"):
        upscale_video(clip, target, tiny(), segment=SEGMENT)
    result = upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True)
    assert 0 < result.resumed < FRAMES == result.frames
    assert frames_of(target) == frames_of(whole)
    if suffix == ".mkv":
        assert frame_times(target) == frame_times(clip)
        assert packets(target, "audio") == packets(clip, "audio")
    assert leftovers(tmp_path) == [f"out{suffix}"]


def test_resume_without_a_journal_starts(tmp_path: Path, clip: Path, whole: Path) -> None:
    result = upscale_video(clip, tmp_path / "out.mkv", tiny(), segment=SEGMENT, resume=True)
    assert result.resumed == 0
    assert frames_of(tmp_path / "out.mkv") == frames_of(whole)


def test_before_the_first_segment_nothing_is_left(tmp_path: Path, clip: Path) -> None:
    interrupted(clip, tmp_path / "out.mkv", 2)
    assert leftovers(tmp_path) == []


def test_another_run_is_refused(tmp_path: Path, clip: Path) -> None:
    target = tmp_path / "out.mkv"
    interrupted(clip, target, 20)
    with pytest.raises(OutputError, match="another encoding"):
        upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True, encoding=Encoding(crf=30))
    with pytest.raises(OutputError, match="another model"):
        upscale_video(clip, target, other(), segment=SEGMENT, resume=True)
    assert upscale_video(clip, target, other(), segment=SEGMENT, overwrite=True).resumed == 0


@pytest.mark.parametrize("cut", [1, 100, 3000])
def test_torn_journal(tmp_path: Path, clip: Path, whole: Path, cut: int) -> None:
    """The end of the journal is missing or wrong, as after a power loss."""
    target = tmp_path / "out.mkv"
    interrupted(clip, target, 30)
    journal = journal_path(target)
    data = bytearray(journal.read_bytes())
    journal.write_bytes(data[:-cut] + (b"\xff" * cut if cut == 100 else b""))
    upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True)
    assert frames_of(target) == frames_of(whole)


@pytest.mark.parametrize("error", [InputError, RuntimeError, MemoryError, SystemExit])
def test_any_failure_keeps_the_work(tmp_path: Path, clip: Path, whole: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out.mkv"
    interrupted(clip, target, 30, error)
    assert leftovers(tmp_path) == [".out.mkv.srfast-journal"]
    assert upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True).resumed > 0
    assert frames_of(target) == frames_of(whole)


def test_numbered_images(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    upscale_video(clip, tmp_path / "a" / "%04d.png", tiny())
    interrupted_at = tmp_path / "b" / "%04d.png"
    interrupted(clip, interrupted_at, 9)
    upscale_video(clip, interrupted_at, tiny(), segment=SEGMENT, resume=True)
    names = [f"{i:04d}.png" for i in range(1, FRAMES + 1)]
    assert leftovers(tmp_path / "a") == leftovers(tmp_path / "b") == names
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    back = upscale_video(tmp_path / "a" / "%04d.png", tmp_path / "back.mkv", tiny())
    assert back.frames == FRAMES


def campaign(clip: Path, target: Path, expected: list[bytes], runs: int, seed: int) -> tuple[int, int]:
    """Kills ``runs`` runs at random moments, each continued by the next; returns kills and completed files."""
    chance = random.Random(seed)
    killed = completed = 0
    while killed < runs:
        process = start(upscale, clip, target, True)
        time.sleep(chance.uniform(0.0, 0.6))
        process.kill()
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (-signal.SIGKILL, 0)
        if target.exists():
            assert frames_of(target) == expected
            target.unlink()
            completed += 1
    assert run_to_end(clip, target, True) == 0
    assert frames_of(target) == expected
    return killed, completed


def run_to_end(*arguments: object) -> int | None:
    process = start(upscale, *arguments)
    process.join(120)
    return process.exitcode


@pytest.mark.skipif(sys.platform != "linux", reason="forks and kills")
@pytest.mark.parametrize("runs", [6, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_killed_at_random(tmp_path: Path, clip: Path, whole: Path, runs: int) -> None:
    killed, completed = campaign(clip, tmp_path / "out.mkv", frames_of(whole), runs, seed=runs)
    print(f"{killed} runs killed, {completed + 1} files completed, all equal")
    assert [n for n in leftovers(tmp_path) if "journal" in n] == []


def test_full_disk_and_more_room(tmp_path: Path, clip: Path, whole: Path) -> None:
    target = tmp_path / "out.mkv"
    size = whole.stat().st_size
    assert run_to_end(clip, target, False, size // 2) == OutputError.exit_code
    assert leftovers(tmp_path) == [".out.mkv.srfast-journal"]
    assert run_to_end(clip, target, True) == 0
    assert frames_of(target) == frames_of(whole)


def test_two_runs_do_not_mix(tmp_path: Path, clip: Path) -> None:
    target = tmp_path / "out.mkv"

    def again(progress: object) -> None:
        with pytest.raises(OutputError, match="another run"):
            upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_video(clip, target, tiny(), segment=SEGMENT, on_progress=again)


def images(folder: Path) -> list[bytes]:
    return [(folder / f"{i:04d}.png").read_bytes() for i in range(1, FRAMES + 1)]


def other() -> Upscaler:
    torch.manual_seed(1)
    return Upscaler(SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2))


def numbered_folders(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).mkdir()
    return [folder / name / "%04d.png" for name in names]


def test_older_images_are_not_this_runs(tmp_path: Path, clip: Path) -> None:
    target, wanted = numbered_folders(tmp_path, "out", "wanted")
    upscale_video(clip, target, other())
    upscale_video(clip, wanted, tiny())
    interrupted(clip, target, 9, overwrite=True)
    result = upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True)
    assert 0 < result.resumed < FRAMES
    assert images(target.parent) == images(wanted.parent)
    assert len(leftovers(target.parent)) == FRAMES


def test_killed_among_images(tmp_path: Path, clip: Path) -> None:
    """What counts is what was counted: images after that are made again."""
    target, wanted = numbered_folders(tmp_path, "out", "wanted")
    upscale_video(clip, wanted, tiny())
    process = start(stand_at, clip, target, 2 * SEGMENT + 3)
    while not Path(str(target) % (2 * SEGMENT + 3)).exists():
        time.sleep(0.01)
    process.kill()
    process.join(60)
    Path(str(target) % (2 * SEGMENT + 1)).write_bytes(b"torn")
    with pytest.raises(OutputError, match="--resume to continue"):
        upscale_video(clip, target, tiny(), segment=SEGMENT)
    assert upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True).resumed == 2 * SEGMENT
    assert images(target.parent) == images(wanted.parent)


def test_a_missing_image_is_made_again(tmp_path: Path, clip: Path) -> None:
    (target,) = numbered_folders(tmp_path, "out")
    interrupted(clip, target, 20)
    Path(str(target) % 5).unlink()
    assert upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True).resumed == 4
    assert len(images(target.parent)) == FRAMES


def test_images_in_the_way_are_seen_before_the_work(tmp_path: Path, clip: Path) -> None:
    (target,) = numbered_folders(tmp_path, "out")
    Path(str(target) % 30).write_bytes(b"precious")
    for resume in (False, True):
        with pytest.raises(OutputError, match=r"0030\.png exists; give -y"):
            upscale_video(clip, target, tiny(), resume=resume)
    assert leftovers(target.parent) == ["0030.png"]


@pytest.mark.parametrize("name", ["out.mkv", "%04d.png"])
def test_lost_frames_leave_nothing(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Here, and only here, what is kept would be wrong."""
    work = NetworkStage.__call__

    def lossy(self: NetworkStage, items: Iterable[Item]) -> Iterator[Item]:
        return (item for item in work(self, items) if not isinstance(item, RgbFrame) or item.pts > 0)

    monkeypatch.setattr(NetworkStage, "__call__", lossy)
    with pytest.raises(FrameLossError, match="the output is discarded"):
        upscale_video(clip, tmp_path / name, tiny(), segment=SEGMENT)
    assert leftovers(tmp_path) == []


def test_what_is_kept_is_said(tmp_path: Path, clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(clip, tmp_path / "out.mkv", 20, RuntimeError)
    assert re.search(r"\d+ frames are kept in .*out\.mkv.*: --resume goes on from there", caplog.text)


def test_other_input_options_are_another_run(tmp_path: Path) -> None:
    """The same bytes have other colours in another pixel format."""
    source, target = tmp_path / "in.yuv", tmp_path / "out.mkv"
    source.write_bytes(np.random.default_rng(0).bytes(20 * 48 * 32 * 3 // 2))

    def run(pixel_format: str, resume: bool, at: int) -> None:
        settings = {"video_size": "48x32", "framerate": "25", "pixel_format": pixel_format}
        upscale_video(
            source,
            target,
            tiny(),
            segment=SEGMENT,
            resume=resume,
            encoding=Encoding(pix_fmt="yuv420p"),
            input_options=InputOptions("rawvideo", settings),
            on_progress=interrupt_at(at),
        )

    with pytest.raises(KeyboardInterrupt):
        run("yuv420p", False, 15)
    with pytest.raises(OutputError, match="another input options"):
        run("nv12", True, 99)
    run("yuv420p", True, 99)


def test_other_input_images_are_another_run(tmp_path: Path, clip: Path) -> None:
    source, target = *numbered_folders(tmp_path, "in"), tmp_path / "out.mkv"
    upscale_video(clip, source, tiny())
    interrupted(source, target, 20)
    upscale_video(clip, source, other(), overwrite=True)
    with pytest.raises(OutputError, match="another input images"):
        upscale_video(source, target, tiny(), segment=SEGMENT, resume=True)


def test_a_run_continues_in_its_own_arithmetic(
    tmp_path: Path, clip: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another instruction set, dtype or backend gives other bits: it is refused, with both values and the way back."""
    target = tmp_path / "out.mkv"
    monkeypatch.setenv("SRFAST_CPU", "none")

    def run(resume: bool, **options: str) -> int:
        upscaler = Upscaler(tiny_network(), device="cpu", **options)
        stop = None if resume else interrupt_at(13)
        return upscale_video(clip, target, upscaler, segment=SEGMENT, resume=resume, on_progress=stop).resumed

    with pytest.raises(KeyboardInterrupt):
        run(False)
    journal = journal_path(target).read_bytes()
    with pytest.raises(OutputError, match=r"backend \('cpu', now 'reference'\).*and --backend cpu, or"):
        run(True, backend="reference", dtype="fp32")
    monkeypatch.setenv("SRFAST_CPU", "amx")
    with pytest.raises(OutputError, match=r"dtype \('float32', now 'bfloat16'\).* --resume and --dtype fp32, or"):
        run(True)
    if instruction_sets()[0] != "portable":
        monkeypatch.delenv("SRFAST_CPU")
        with pytest.raises(
            OutputError, match=r"set \('portable', now '[a-z0-9]+'\).*with SRFAST_CPU=portable in the env"
        ):
            run(True, dtype="fp32")
    assert journal_path(target).read_bytes() == journal
    monkeypatch.setenv("SRFAST_CPU", "portable")
    assert run(True) > 0
    reference = tmp_path / "whole.mkv"
    upscale_video(clip, reference, Upscaler(tiny_network(), device="cpu"), segment=SEGMENT)
    assert frames_of(target) == frames_of(reference)


def test_a_record_of_unknown_instructions(tmp_path: Path, clip: Path) -> None:
    """Of a CPU that this one is not, and of what was never an instruction set: no advice that cannot be followed."""
    target = tmp_path / "out.mkv"
    interrupted(clip, target, 13)
    path = journal_path(target)
    magic, line, rest = path.read_bytes().split(b"\n", 2)
    for name in ("avx1024", "\x1b[31m" + "x" * 500):
        path.write_bytes(
            magic + b"\n" + json.dumps(json.loads(line) | {"instruction set": name}).encode() + b"\n" + rest
        )
        with pytest.raises(OutputError, match="another instruction set") as error:
            upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True)
        said = str(error.value)
        assert "SRFAST_CPU" not in said and said.isprintable() and len(said) < 500
