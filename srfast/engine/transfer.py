"""Host images through a device: page-locked staging, and copies that overlap the network on queues of their own.

A batch goes through three queues: up, run, down. Several are on their way, each in a slot with memory of its own, so that
one is copied in while the one before it runs and the one before that is copied out. What orders them are events alone;
``Queues`` is all that touches the device, so tests put another one in its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

_cuda: Any = torch.cuda  # its streams and events have no types
# A slot for each queue: one batch in each of them, and nothing waits for the host.
SLOTS = 3
# [N, H, W, C] integer images of the device -> the results there, overwritten by the next call, and a [1] integer tensor,
# not 0 where a value was NaN or infinite.
Run: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
# Takes a batch's result in host memory, which is overwritten later, and whether all of it is finite.
Deliver: TypeAlias = Callable[[Tensor, bool], None]


class Event(Protocol):
    """A point in a queue."""

    def synchronize(self) -> object:
        """Returns when the queue has come there."""
        ...


class Queues(Protocol):
    """Queues of a device, in each of which work is done in order."""

    def submit(self, queue: str, work: Callable[[], object], after: Sequence[Event]) -> Event:
        """Queues work that begins after these events."""
        ...

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Host memory that the device can copy to and from by itself."""
        ...


class CudaQueues:
    """CUDA streams.

    ``run`` is the caller's current stream: what the caller does there with the same memory comes in order with it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: dict[str, Any] = {name: _cuda.Stream(device) for name in ("up", "down")}

    def submit(self, queue: str, work: Callable[[], object], after: Sequence[Event]) -> Event:
        """As ``Queues.submit``."""
        with torch.cuda.device(self._device):
            stream: Any = self._streams.get(queue) or torch.cuda.current_stream(self._device)
            with torch.cuda.stream(stream):
                for earlier in after:
                    stream.wait_event(earlier)
                work()
                event = _cuda.Event()
                event.record(stream)
        done: Event = event
        return done

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Page-locked memory."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True, device="cpu")


@dataclass
class _Slot:
    """Memory of one batch on its way, on both sides, and the last events that touched it."""

    host_in: Tensor
    device_in: Tensor
    device_out: Tensor | None = None
    host_out: Tensor | None = None
    device_flag: Tensor | None = None
    host_flag: Tensor | None = None
    ran: list[Event] = field(default_factory=list)
    came: list[Event] = field(default_factory=list)
    deliver: Deliver | None = None
    result: Tensor | None = None


class Staging:
    """Batches of windows of one size on their way through a device.

    Args:
        run: the network; called in the queue ``run``.
        queues: of the device.
        images: in a full batch.
        like: a window, [1, H, W, C] of an integer type.
        device: where ``run`` runs.
    """

    def __init__(self, run: Run, queues: Queues, images: int, like: Tensor, device: torch.device) -> None:
        self._run, self._queues = run, queues
        self.images = images
        shape, dtype = (images, *like.shape[1:]), like.dtype
        self._free = deque(
            _Slot(queues.host_memory(shape, dtype), torch.empty(shape, dtype=dtype, device=device))
            for _ in range(SLOTS)
        )
        for slot in self._free:
            slot.host_in.zero_()  # a batch may be smaller than the memory
            # The allocator hands out memory in the order of ``run``, in which work on what lay there before may still wait.
            slot.ran = [queues.submit("run", lambda: None, [])]
        self._busy: deque[_Slot] = deque()

    def put(self, windows: Sequence[Tensor], deliver: Deliver, target: Tensor | None = None) -> None:
        """Sends windows on their way.

        Args:
            windows: of [1, H, W, C], at most as many as a batch has.
            deliver: called by a later ``put`` or ``deliver_first``, in the order of the windows.
            target: contiguous memory for the result, from ``Queues.host_memory``; without it the slot has its own.
        """
        if not self._free:
            self.deliver_first()
        slot = self._free.popleft()
        for index, window in enumerate(windows):
            slot.host_in[index : index + 1].copy_(window)
        slot.deliver, slot.result = deliver, target
        submit = self._queues.submit
        try:
            # The copy in waits for the last run that read this memory, the run for the last copy out of its result, and so
            # on around: no queue ever overwrites what another one still reads, and the host waits for none of them.
            up = submit("up", lambda: _send(slot), slot.ran)
            slot.ran = [submit("run", lambda: self._run_slot(slot), [up, *slot.came])]
            slot.came = [submit("down", lambda: self._fetch(slot, len(windows)), slot.ran)]
        except BaseException:
            # The windows are the caller's to send again; the memory may still be in use.
            self._free.append(slot)
            raise
        self._busy.append(slot)

    @property
    def waiting(self) -> int:
        """Batches on their way."""
        return len(self._busy)

    def deliver_first(self) -> None:
        """Waits for the batch that was put first and delivers it."""
        slot = self._busy.popleft()
        self._free.append(slot)
        slot.came[0].synchronize()
        assert slot.result is not None and slot.host_flag is not None and slot.deliver is not None
        # The flag came in the same queue as the result, so it is there as well.
        slot.deliver(slot.result, not bool(slot.host_flag))

    def _run_slot(self, slot: _Slot) -> None:
        _keep(slot.device_in)
        y, flag = self._run(slot.device_in)
        if slot.device_out is None or slot.device_flag is None:
            # Allocated in the queue that writes first; the results' shape is known only now.
            slot.device_out, slot.device_flag = torch.empty_like(y), torch.empty_like(flag)
        _keep(slot.device_out, slot.device_flag)
        slot.device_out.copy_(y)
        slot.device_flag.copy_(flag)

    def _fetch(self, slot: _Slot, images: int) -> None:
        assert slot.device_out is not None and slot.device_flag is not None
        _keep(slot.device_out, slot.device_flag)
        if slot.host_flag is None:
            slot.host_flag = self._queues.host_memory(slot.device_flag.shape, slot.device_flag.dtype)
        if slot.result is None:
            if slot.host_out is None:
                slot.host_out = self._queues.host_memory(slot.device_out.shape, slot.device_out.dtype)
            slot.result = slot.host_out[:images]
        slot.result.copy_(slot.device_out[:images], non_blocking=True)
        slot.host_flag.copy_(slot.device_flag, non_blocking=True)


def _send(slot: _Slot) -> None:
    _keep(slot.device_in)
    slot.device_in.copy_(slot.host_in, non_blocking=True)


def _keep(*memory: Tensor) -> None:
    """The current queue uses the memory: whenever it is freed, the allocator keeps it until the queue has come past here."""
    for tensor in memory:
        if tensor.is_cuda:
            tensor.record_stream(torch.cuda.current_stream(tensor.device))
