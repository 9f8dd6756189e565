"""Staging without a GPU: queues that run their work late and in any order that the events allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from srfast.backends.base import Executable, FrameExecutable
from srfast.capture import capture
from srfast.engine import Engine, transfer
from srfast.engine.pixels import PEAKS, to_units
from srfast.engine.tiling import batches, tile_by_size
from srfast.engine.transfer import SLOTS, Staging
from srfast.errors import SrfastError
from srfast.images.arrays import upscale_frame
from srfast.models import SRVGGNetCompact
from srfast.plan.passes import optimise
from tests.helpers.late_queues import EagerQueues, LateEvent, LateQueues
from tests.helpers.networks.small import randomise

CPU = torch.device("cpu")


def one_buffer() -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Doubles images; like a captured graph it writes every result to the same memory. 77 is not finite."""
    out, flag = torch.empty(0), torch.zeros(1, dtype=torch.int32)

    def run(frames: Tensor) -> tuple[Tensor, Tensor]:
        out.resize_(frames.shape).copy_(frames * 2)
        flag.fill_(int((frames == 77).any()))
        return out.to(frames.dtype), flag

    return run


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("targets", [False, True])
def test_batches_come_back_whole_and_in_order(seed: int, targets: bool) -> None:
    queues = LateQueues(seed)
    windows = [torch.full((1, 2, 3, 1), 10 + i, dtype=torch.uint8) for i in range(12)]
    windows[5].fill_(77)
    staging = Staging(one_buffer(), queues, 2, windows[0], CPU)
    seen: list[tuple[list[int], bool]] = []
    places = [torch.zeros(2, 2, 3, 1, dtype=torch.uint8) for _ in range(6)]
    for i in range(0, 12, 2):
        staging.put(
            windows[i : i + 2],
            lambda y, finite: seen.append((y[:, 0, 0, 0].tolist(), finite)),
            places[i // 2] if targets else None,
        )
        assert staging.waiting <= SLOTS
    assert len(seen) == 3
    while staging.waiting:
        staging.deliver_first()
    values = [int(w[0, 0, 0, 0]) for w in windows]
    assert seen == [([2 * values[i], 2 * values[i + 1]], i != 4) for i in range(0, 12, 2)]
    if targets:
        assert [place[:, 1, 2, 0].tolist() for place in places] == [values for values, _ in seen]


def test_copies_overlap() -> None:
    """In some order that the events allow, the second batch goes up before the first has run."""
    orders = set()
    for seed in range(10):
        queues = LateQueues(seed)
        staging = Staging(one_buffer(), queues, 1, torch.zeros(1, 1, 1, 1, dtype=torch.uint8), CPU)
        while queues.waiting:  # its memory is there
            queues.step()
        queues.order.clear()
        for _ in range(3):
            staging.put([torch.zeros(1, 1, 1, 1, dtype=torch.uint8)], lambda y, finite: None)
        while staging.waiting:
            staging.deliver_first()
        orders.add(tuple(queues.order))
    assert any(order[:2] == ("up", "up") for order in orders)
    assert any(order.index("down") < len(order) - 1 - order[::-1].index("up") for order in orders)


@pytest.mark.parametrize("seed", range(20))
def test_memory_whose_last_work_still_waits_is_not_overwritten(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch's allocator does: what was freed is handed out again while ``run`` has not come past its last use."""
    queues, window = LateQueues(seed), torch.full((1, 2, 3, 1), 10, dtype=torch.uint8)
    earlier = torch.full((1, 2, 3, 1), 5, dtype=torch.uint8)
    seen: list[int] = []
    queues.submit("run", lambda: seen.append(int(earlier.max())), [])
    monkeypatch.setattr(transfer.torch, "empty", lambda *args, **options: earlier)
    staging = Staging(one_buffer(), queues, 1, window, CPU)
    monkeypatch.undo()
    staging.put([window], lambda y, finite: seen.append(int(y.max())))
    staging.deliver_first()
    assert seen == [5, 20]


def test_memory_is_kept_for_every_queue_that_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropped at any time, even without ``close``, device memory must outlive the copies that are on their way."""
    queues, window = LateQueues(0), torch.full((1, 2, 3, 1), 10, dtype=torch.uint8)
    kept: list[tuple[str, tuple[int, ...]]] = []
    running = ""
    submit = queues.submit

    def named(queue: str, work: Callable[[], object], after: Sequence[LateEvent]) -> LateEvent:
        def run() -> None:
            nonlocal running
            running = queue
            work()

        return submit(queue, run, after)

    monkeypatch.setattr(queues, "submit", named)
    monkeypatch.setattr(
        transfer, "_keep", lambda *memory: kept.append((running, tuple(tensor.data_ptr() for tensor in memory)))
    )
    staging = Staging(one_buffer(), queues, 1, window, CPU)
    slot = staging._free[0]
    staging.put([window], lambda y, finite: None)
    staging.deliver_first()
    assert slot.device_out is not None and slot.device_flag is not None
    there, back = (slot.device_in.data_ptr(),), (slot.device_out.data_ptr(), slot.device_flag.data_ptr())
    assert kept == [("up", there), ("run", there), ("run", back), ("down", back)]


def test_a_failed_batch_leaves_the_others() -> None:
    def failing(frames: Tensor) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError("test")

    window = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    staging = Staging(failing, EagerQueues(0), 1, window, CPU)
    for _ in range(2 * SLOTS):
        with pytest.raises(torch.OutOfMemoryError):
            staging.put([window], lambda y, finite: None)
    assert staging.waiting == 0


def test_batches_are_even_and_of_one_size() -> None:
    tiling = tile_by_size(50, 70, 16, 3)
    for images, most in ((1, 1), (2, 7), (3, 100)):
        found = list(batches(images, tiling, most))
        assert sum(len(parts) for parts in found) == images * len(tiling)
        assert max(len(parts) for parts in found) - min(len(parts) for parts in found) <= 1
        assert max(len(parts) for parts in found) <= most
        for parts in found:
            assert len({(p.row.size, p.column.size) for p in parts}) == 1


class Frames(FrameExecutable):
    """An executable that takes integer frames, in one buffer for each size, as GPU backends do."""

    def __init__(self, run: Executable, most: int = 1 << 30) -> None:
        super().__init__(replace(run.traits, min_pixels=1000))
        self._run, self._most = run, most
        self._buffers: dict[tuple[int, ...], Tensor] = {}
        self.batches: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x)

    def run_frames(self, frames: Tensor, gain: float, white: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        count, height, width, _ = frames.shape
        if count * height * width > self._most:
            raise torch.OutOfMemoryError("test")
        self.batches.append(count)
        x = to_units(frames.flip(3) if bgr else frames, torch.float32, gain * PEAKS[frames.dtype])
        y = self._run(x).permute(0, 2, 3, 1)
        y = (y.flip(3) if bgr else y) * (PEAKS[frames.dtype] / white)
        bad = torch.tensor([int(not torch.isfinite(y).all())])
        key = tuple(y.shape)
        out = self._buffers.setdefault(key, torch.empty(key, dtype=frames.dtype))
        out.copy_(y.nan_to_num(0).round().clamp(0, PEAKS[frames.dtype]).to(frames.dtype))
        return out, bad


def engines(most: int = 1 << 30, seed: int = 0, **options: int) -> tuple[Engine, Engine, Frames]:
    """A plain engine, and one that stages its frames."""
    plan = optimise(capture(randomise(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2))))
    plain = Engine(plan, device="cpu", dtype=torch.float32, backend="reference", **options)
    staged = Engine(plan, device="cpu", dtype=torch.float32, backend="reference", **options)
    frames = Frames(staged._runner.run, most)
    staged._runner.run, staged._runner.queues = frames, LateQueues(seed)
    return plain, staged, frames


def images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def close(ours: Tensor, theirs: Tensor) -> None:
    """Equal but for the rounding of sums whose order may depend on the size of a batch."""
    assert ours.shape == theirs.shape
    error = (ours.int() - theirs.int()).abs()
    assert error.max() <= 1
    assert (error > 0).double().mean() < 1e-3


@pytest.mark.parametrize("tile", [0, 8])
@pytest.mark.parametrize("bgr", [False, True])
def test_staged_engine(tile: int, bgr: bool) -> None:
    plain, staged, frames = engines(tile=tile)
    x = images(5, 19, 23)
    close(staged(x, bgr=bgr), plain(x.flip(3) if bgr else x).flip(3 if bgr else ()))
    assert max(frames.batches) > 1, "several tiles or images go together"
    assert staged.statistics.images == 5


@pytest.mark.parametrize("seed", range(5))
def test_stream(seed: int) -> None:
    """Batches of several sizes one after another: results in order, all on their way at once."""
    plain, staged, _ = engines(seed=seed, tile=0)
    given = [images(1 + i % 2, 9 + 4 * (i // 4), 11, seed=i) for i in range(9)]
    taken = 0

    def source() -> Iterator[Tensor]:
        nonlocal taken
        for batch in given:
            taken += 1
            yield batch

    for index, result in enumerate(staged.stream(source())):
        assert taken - index <= SLOTS
        close(result, plain(given[index]))
    assert taken == len(given)


def test_refresh() -> None:
    """Tiles of an image on their way one by one; those that did not change keep their result."""
    plain, staged, frames = engines(tile=8)
    last = images(1, 19, 23)
    image = last.clone()
    image[0, 2:4, 3:5] = 0
    out = staged(last)
    frames.batches.clear()
    assert staged.refresh(image, last, out) > 0
    assert 0 < len(frames.batches) < len(staged.tiling(19, 23))
    close(out, plain(image))


def test_out_of_memory_on_the_way_halves_the_tile() -> None:
    plain, staged, _ = engines(most=24 * 24, tile=0)
    staged._runner.queues = EagerQueues(0)
    given = [images(1, 15, 15), images(2, 40, 33), images(1, 15, 15, seed=3)]
    for result, batch in zip(staged.stream(given), given, strict=True):
        close(result, plain(batch))
    assert staged.statistics.out_of_memory >= 1


@pytest.mark.parametrize("where", ["host", "device"])
def test_what_overflows_is_done_again(where: str) -> None:
    """Only the image that overflowed; on the device flags are looked at once, at the end."""
    plain, staged, frames = engines(tile=0)
    frames.traits = replace(frames.traits, min_pixels=1)
    if where == "device":
        staged._runner.queues = None
    run, calls = frames.run_frames, 0

    def overflowing(*arguments: object) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        y, flag = run(*arguments)  # type: ignore[arg-type]
        if calls == 2:
            y.zero_()
            flag = torch.ones(1, dtype=torch.int32)
        return y, flag

    frames.run_frames = overflowing  # type: ignore[assignment, method-assign]
    x = images(3, 9, 10)
    close(staged(x), plain(x))
    assert calls == 3
    assert staged.statistics.redone == 1


def test_numpy_frames_go_in_as_they_are() -> None:
    """BGR, BGRA and views of larger arrays, without OpenCV's conversion where the engine takes BGR."""
    plain, staged, _ = engines(tile=0)
    assert staged.takes_bgr and not plain.takes_bgr
    array = images(1, 9, 12)[0].numpy()
    bgra = np.dstack([array, array[:, :, :1]])
    for frame in (array, array[:, ::-1, ::-1], bgra):
        ours, theirs = upscale_frame(frame, staged), upscale_frame(frame, plain)
        close(torch.from_numpy(ours.copy()), torch.from_numpy(theirs))


@pytest.mark.parametrize("seed", range(5))
def test_closing_waits_for_what_is_on_its_way(seed: int) -> None:
    """The memory goes back only when no queue uses it, and what was begun can still be had."""
    plain, staged, _ = engines(seed=seed, tile=0)
    queues = staged._runner.queues
    assert isinstance(queues, LateQueues)
    given = [images(1, 9, 11, seed=i) for i in range(SLOTS)]
    results = [staged.begin(batch) for batch in given]
    assert queues.waiting > 0
    staged.close()
    assert queues.waiting == 0
    for result, batch in zip(results, given, strict=True):
        close(result(), plain(batch))
    with pytest.raises(SrfastError, match="closed"):
        staged(given[0])


class OnDevice(Tensor):
    """Lies in host memory, but says that it is a GPU's, and so do its views and results."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


class NoQueues(LateQueues):
    """Nothing may go through them."""

    def submit(self, queue: str, work: Callable[[], object], after: Sequence[LateEvent]) -> LateEvent:
        raise AssertionError(f"work for the queue {queue!r}")

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        raise AssertionError(f"host memory of {tuple(shape)}")


def test_device_images_never_touch_host_memory() -> None:
    """Images already on the device are not staged: their results come in memory like theirs."""
    plain, staged, frames = engines(tile=8)
    staged._runner.queues = NoQueues(0)
    x = images(2, 19, 23)
    view = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)  # channels first in memory, as DLPack brings them
    result = staged(view.as_subclass(OnDevice))
    assert isinstance(result, OnDevice)
    assert frames.batches
    close(result.as_subclass(Tensor), plain(x))
    with pytest.raises(AssertionError, match="host memory"):
        staged(x)
