"""Upscalers by what clients ask for, few of them in memory at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from srfast.service.config import Request, ServiceOptions

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler

_KEPT = 2


class Engines:
    """The upscalers that one thread uses; those that were not used for longest are closed.

    Args:
        options: of the service.
    """

    def __init__(self, options: ServiceOptions) -> None:
        self._options = options
        self._loaded: OrderedDict[tuple[str, float | None], Upscaler] = OrderedDict()

    def get(self, request: Request) -> Upscaler:
        """The upscaler of a request that was checked."""
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
        """Closes all."""
        while self._loaded:
            self._loaded.popitem()[1].close()
