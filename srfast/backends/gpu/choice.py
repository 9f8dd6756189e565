"""Which backend runs a network on a GPU: chosen from measurements of whole networks, by the GPU, the network's kind and size.

The files are those of ``srfast.kernels.configs.networks``. Nothing is measured here, so one machine always chooses alike; where
no file has an entry, ``backends.kernel_choice`` decides by single convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

from srfast.backends.measured import Choice, first_worth
from srfast.kernels.configs.networks import BACKENDS, files_of

# What is measured as eager PyTorch is run by this backend.
_NAMES = {"eager": "reference"}
_ALL = tuple(_NAMES.get(name, name) for name in BACKENDS)


def choose(
    kind: str, names: Sequence[str], size: str | None = None, runnable: Sequence[str] = _ALL
) -> Choice[str] | None:
    """Takes the backend for networks of a kind; None where no file has an entry.

    Args:
        kind: one of ``networks.KINDS``.
        names: of the GPU, from ``kernels.configs.device_names``.
        size: class of the frames, one of ``networks.SIZES``, whose entries count; None where nobody knows: then those of all.
        runnable: backends to choose among, as ``backends.BACKENDS`` calls them.

    Returns:
        A backend's name, and why: the other times, and the file.
    """
    possible = [name for name in BACKENDS if _NAMES.get(name, name) in runnable]
    for file in files_of(names):
        rows = [row for row in file.measured if row.kind == kind and size in (None, row.size)]
        if found := first_worth(possible, rows):
            return Choice(_NAMES.get(found.way, found.way), f"{found.reason}; from {file.path}")
    return None
