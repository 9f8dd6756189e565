"""What a worker does, on any engine of the scheduling: plans in, segments out, the network loaded once."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srfast.cluster.plan import Plan, parse_plan
from srfast.cluster.segment import run_segment, segment_path
from srfast.errors import SrfastError
from srfast.upscaler import Upscaler


class Worker:
    """Computes segments one after another.

    Args:
        name: of the machine, for the records.
    """

    def __init__(self, name: str) -> None:
        self._name = name
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
        try:
            read = parse_plan(plan)
            read.check_version()
            upscaler = self._loaded(read.network, read)
            if Path(folder, token).is_file():
                record = run_segment(read, number, folder, upscaler, host=self._name)
                return {"record": asdict(record)}
            with tempfile.TemporaryDirectory(prefix="srfast-") as own:
                record = run_segment(read, number, own, upscaler, host=self._name)
                data = segment_path(Path(own), number).read_bytes()
            return {"record": asdict(record), "data": data}
        except SrfastError as error:
            return {"error": f"{error} (on {self._name})", "code": error.exit_code}
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return {"error": f"{what:.300} (on {self._name})", "code": SrfastError.exit_code}

    def _loaded(self, network: dict[str, Any], plan: Plan) -> Upscaler:
        key = json.dumps(network, sort_keys=True)
        if key != self._network or self._upscaler is None:
            self._upscaler = None  # its memory first
            self._upscaler, self._network = plan.upscaler(), key
        return self._upscaler
