"""Upscalers by what clients ask for, few of them in memory at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from srfast.service.config import Request, ServiceOptions

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler

_KEPT = 2


class Engines:
    """Keep the upscalers that one thread uses; those that were not used for longest are closed.

    Args:
        options: of the service.

    Examples:
        >>> from pathlib import Path
        >>> engines = Engines(ServiceOptions(Path("jobs"), device="cpu"))
        >>> engines.get(Request("compact_x2")) is engines.get(Request("compact_x2", suffix="mkv"))
        True
        >>> engines.close()
    """

    def __init__(self, options: ServiceOptions) -> None:
        self._options = options
        self._loaded: OrderedDict[tuple[str, float | None], Upscaler] = OrderedDict()

    def get(self, request: Request) -> Upscaler:
        """Return the upscaler of a request that was checked; it is loaded where it is not there.

        Raises:
            CheckpointError, BackendError: the model cannot be loaded, or not run on the service's device.
        """
        from srfast.upscaler import load

        key = (request.model, request.scale)
        if key not in self._loaded:
            while len(self._loaded) >= _KEPT:
                self._loaded.popitem(last=False)[1].close()
            path = self._options.models.get(request.model, request.model)
            self._loaded[key] = load(path, outscale=request.scale, device=self._options.device)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def close(self) -> None:
        """Close all upscalers."""
        while self._loaded:
            self._loaded.popitem()[1].close()
