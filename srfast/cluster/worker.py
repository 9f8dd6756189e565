"""What a worker does, on any engine of the scheduling: plans in, segments out, the network loaded once."""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srfast.cluster.plan import Plan, parse_plan
from srfast.cluster.segment import run_segment, segment_path
from srfast.errors import SrfastError
from srfast.upscaler import Upscaler


class Worker:
    """Computes segments one after another.

    Calls from several threads have the network in the order in which they came: while one segment is computed, the next one
    is opened and its first frames are decoded, and the one before is completed.

    Args:
        name: of the machine, for the records.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._turns, self._loading = _Turns(), threading.Lock()
        self._network = ""
        self._upscaler: Upscaler | None = None

    def segment(self, plan: str, number: int, folder: str, token: str) -> dict[str, Any]:
        """One segment; errors are told, not raised, so that they need not be sent as objects.

        Args:
            plan: its text.
            number: of the segment.
            folder: where the driver has the segments; what is not seen from here comes back as bytes.
            token: the name of a file that the driver has put there.
        """
        # Before anything that takes time: turns are had in the order of the calls.
        turn = self._turns.last()
        try:
            read = parse_plan(plan)
            read.check_version()
            upscaler = self._loaded(read.network, read)
            # A folder of the same name may be another one here; the driver's is known by what it has just put there.
            if Path(folder, token).is_file():
                record = run_segment(read, number, folder, upscaler, host=self._name, turn=turn)
                return {"record": asdict(record)}
            with tempfile.TemporaryDirectory(prefix="srfast-") as own:
                record = run_segment(read, number, own, upscaler, host=self._name, turn=turn)
                data = segment_path(Path(own), number).read_bytes()
            return {"record": asdict(record), "data": data}
        except SrfastError as error:
            return {"error": f"{error} (on {self._name})", "code": error.exit_code}
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return {"error": f"{what:.300} (on {self._name})", "code": SrfastError.exit_code}
        finally:
            turn.leave()

    def _loaded(self, network: dict[str, Any], plan: Plan) -> Upscaler:
        key = json.dumps(network, sort_keys=True)
        with self._loading:
            if key != self._network or self._upscaler is None:
                self._upscaler = None  # its memory first
                self._upscaler, self._network = plan.upscaler(), key
            return self._upscaler


class _Turns:
    """A queue of those who want the network."""

    def __init__(self) -> None:
        self._waiting: list[_Turn] = []
        self._changed = threading.Condition()

    def last(self) -> _Turn:
        """A place behind all others."""
        turn = _Turn(self._waiting, self._changed)
        with self._changed:
            self._waiting.append(turn)
        return turn


class _Turn:
    """A place in the queue; as a context it lasts from when nobody is before it."""

    def __init__(self, waiting: list[_Turn], changed: threading.Condition) -> None:
        self._waiting, self._changed = waiting, changed

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[0] is self)

    def __exit__(self, *error: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Gives the place up, also one that was never used; again does nothing."""
        with self._changed:
            if self in self._waiting:
                self._waiting.remove(self)
                self._changed.notify_all()
