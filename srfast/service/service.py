"""The service itself: one thread for images and previews, one for jobs, and the limits on what waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from srfast.service.config import ServiceOptions
from srfast.service.engines import Engines
from srfast.service.jobs import BusyError, Job, JobStore
from srfast.service.work import do_job

T = TypeVar("T")


class Service:
    """Run what ``srfast serve`` and ``srfast ui`` share: images in one thread, jobs in another, and their limits.

    Args:
        options: what it offers and allows.

    Attributes:
        options: the same.
        jobs: the queue.

    Raises:
        OutputError: the folder of the jobs cannot be used.

    Examples:
        >>> import tempfile
        >>> service = Service(ServiceOptions(Path(tempfile.mkdtemp()), images_waiting=1))
        >>> with service.slot():
        ...     service.with_images(lambda engines: type(engines).__name__).result()
        'Engines'
        >>> service.stop()
    """

    def __init__(self, options: ServiceOptions) -> None:
        self.options = options
        self._of_jobs, self._of_images = Engines(options), Engines(options)
        self.jobs = JobStore(options, self._work)
        self._images = ThreadPoolExecutor(1, "srfast-images")
        self._slots = threading.Semaphore(options.images_waiting)

    def start(self) -> None:
        """Begin with the jobs that are there."""
        self.jobs.start()

    def stop(self) -> None:
        """End in order: images are finished, the job at hand stops where it can be continued."""
        self._images.shutdown(wait=True, cancel_futures=True)
        self.jobs.stop()
        self._of_images.close()
        self._of_jobs.close()

    def slot(self) -> Slot:
        """Take a place among the images that wait, to be held while one is received and done.

        Raises:
            BusyError: all are taken.
        """
        if not self._slots.acquire(blocking=False):
            raise BusyError(f"{self.options.images_waiting} images are waiting already; try again later")
        return Slot(self._slots)

    def with_images(self, work: Callable[[Engines], T]) -> Future[T]:
        """Have work done in the thread that owns the engines of images, one after another.

        Args:
            work: is given the engines.

        Returns:
            A future of what ``work`` returns or raises.
        """
        return self._images.submit(work, self._of_images)

    def _work(self, job: Job, source: Path, target: Path, tell: Callable[[int, int, float], None]) -> str:
        return do_job(job, source, target, tell, self.options, self._of_jobs)


class Slot:
    """Hold one of a bounded number of places; it is given back at the end of its block."""

    def __init__(self, slots: threading.Semaphore) -> None:
        self._slots = slots

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        self._slots.release()
