"""Which architecture a state_dict belongs to, from its keys and shapes alone."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from srfast.checkpoint import readers
from srfast.checkpoint.recipe import Architecture, Layout, StateDict
from srfast.errors import CheckpointError, printable

# The first that is there is opened, and what is in it again.
WRAPPERS = (
    "params_ema",
    "params",
    "state_dict",
    "model_state_dict",
    "generator_state_dict",
    "model",
    "generator",
    "netG",
    "net",
)
# Of networks that a training program keeps beside others: only these are the generator.
GENERATORS = ("generator_ema.", "generator.", "netG.", "net_g.")
# Left by wrappers of modules.
PREFIXES = ("module.", "_orig_mod.", "net.", "model.")
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_TELLING = ("pro",)  # single numbers that say something about a network: Real-CUGAN's
_DEPTH, _PARTS = 4, 64  # of wrappers and prefixes in one another, and of networks beside each other


def _architectures() -> tuple[Architecture, ...]:
    """The records of all files in ``readers``: who adds one there needs no entry anywhere else."""
    # Sorted by name, so that which of two equally good layouts wins does not depend on the file system.
    names = sorted(module.name for module in pkgutil.iter_modules(readers.__path__))
    modules = [importlib.import_module(f"{readers.__name__}.{name}") for name in names]
    return tuple(record for module in modules for record in module.ARCHITECTURES)


ARCHITECTURES = _architectures()
LAYOUTS: tuple[Layout, ...] = tuple(layout for record in ARCHITECTURES for layout in record.layouts)
# By the class's name, which stands in the files that srfast writes.
BY_MODULE: dict[str, Architecture] = {record.module.__name__: record for record in ARCHITECTURES}


class UnknownArchitectureError(CheckpointError):
    """The keys are those of no architecture that srfast reads."""


def unwrapped(content: Any, search: bool = True) -> dict[str, Tensor]:
    """The generator's tensors, out of wrappers and without prefixes: by the names that programs use, else any one.

    Args:
        content: of the file.
        search: False leaves it at the names that programs use, for files that tell their network themselves.

    Raises:
        CheckpointError: there are none, or several networks and nothing tells which is the one.
    """
    problem, state = None, {}
    try:
        state = _by_known_names(content)
    except CheckpointError as error:
        problem = error
    if not search:
        if problem is not None:
            raise problem
        return state
    found = list(_networks(content, "", 0))
    # Training programs keep the running average of the weights beside them; it is the one that they publish.
    averages = [pair for pair in found if "ema" in pair[0].lower()]
    if state and _layout(state) is not None and len(averages) != 1:
        return state
    best = averages or found
    if len(best) > 1:
        names = ", ".join(printable(name, 30) for name, _ in best[:3])
        raise CheckpointError(f"it holds {len(best)} networks, {names}; save the one to use in a file of its own")
    if best:
        return best[0][1]
    if problem is not None:
        raise problem
    return state


def _networks(content: Any, path: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Networks of known layouts inside wrappers or behind prefixes, with where they are."""
    if depth > _DEPTH or not isinstance(content, Mapping):
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    # Batch normalisation counts batches there in training; it says nothing about the network.
    tensors = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    if _layout(tensors) is not None and _takes_images(tensors):
        yield path, tensors
        return
    parts: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        first, dot, rest = str(key).partition(".")
        if isinstance(value, Mapping):
            parts[str(key)] = dict(value)
        elif dot and isinstance(value, Tensor):
            parts.setdefault(first, {})[rest] = value
    if len(parts) <= _PARTS:
        for name, part in parts.items():
            yield from _networks(part, f"{path}.{name}" if path else name, depth + 1)


def _takes_images(state: StateDict) -> bool:
    """Whether the first convolution reads colour planes, perhaps unshuffled: parts of larger networks have familiar keys too."""
    first = next((value for value in state.values() if value.ndim == 4), None)
    return first is not None and first.shape[1] in (1, 3, 4, 12, 16, 48)


def fitting(state: StateDict) -> list[Layout]:
    """Layouts whose marks are all there, without those whose marks are only a part of another's."""
    found = [layout for layout in LAYOUTS if all(mark in state for mark in layout.marks)]
    # ESRGAN+ has all keys of ESRGAN and more: the layout that explains more of the file is the right one.
    return [layout for layout in found if not any(set(layout.marks) < set(other.marks) for other in found)]


def _layout(state: StateDict) -> Layout | None:
    return next(iter(fitting(state)), None)


def _by_known_names(content: Any) -> dict[str, Tensor]:
    for _ in range(4):
        inner = next(
            (content[w] for w in WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(w), Mapping)), None
        )
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise CheckpointError(f"it holds a {type(content).__name__}, not a state_dict of tensors")
    state = _distinct((str(key), value) for key, value in content.items() if isinstance(value, Tensor))
    for _ in range(8):
        shorter = _without_prefix(state)
        if shorter is None:
            break
        state = shorter
    weights = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    if not weights:
        raise CheckpointError("it holds no tensors, so it is not a checkpoint of a network")
    return weights


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    for prefix in GENERATORS:
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if own:
            return own
    # torch.compile puts this into the keys at whatever depth the compiled part was.
    if any("_orig_mod." in key for key in state):
        return _distinct((key.replace("_orig_mod.", ""), value) for key, value in state.items())
    for prefix in PREFIXES:
        # "model.0" and the like are layers, not a wrapper.
        if all(key.startswith(prefix) and not key[len(prefix) :][:1].isdigit() for key in state):
            return {key.removeprefix(prefix): value for key, value in state.items()}
    return None


def _distinct(pairs: Any) -> dict[str, Tensor]:
    pairs = list(pairs)
    state = dict(pairs)
    if len(state) != len(pairs):
        raise CheckpointError("two of its tensors have the same name, but for '_orig_mod.' or as a number and as text")
    return state


def detect(state: StateDict) -> Layout:
    """The layout whose marks are all there.

    Raises:
        CheckpointError: there is none; says which is the nearest and what that lacks.
    """
    layout = _layout(state)
    if layout is not None:
        return layout
    nearest = max(LAYOUTS, key=lambda layout: _likeness(layout, state))
    found = ", ".join(printable(key, 22) for key in list(state)[:2])
    lacks = [mark for mark in nearest.marks if mark not in state]
    missing = lacks[0] + (f" and {len(lacks) - 1} more" if len(lacks) > 1 else "")
    raise UnknownArchitectureError(
        f"it is of no known architecture: {len(state)} tensors from {found} on; nearest is {nearest.architecture} "
        f"({nearest.origin}), without {missing}; 'srfast inspect --keys FILE' lists all"
    )


def _likeness(layout: Layout, state: StateDict) -> float:
    """0 to 1: how near the most similar key comes to each mark, on average."""
    keys = [key[:60] for key in list(state)[:30]]
    best = [
        1.0 if mark in state else max(difflib.SequenceMatcher(None, mark, key).quick_ratio() for key in keys)
        for mark in layout.marks
    ]
    return sum(best) / len(best)


def without_counts(state: StateDict) -> dict[str, Tensor]:
    """The tensors less single whole numbers, such as steps of the training: no weight is one.

    That of Real-CUGAN, which being there tells how the values of pixels are mapped, becomes a floating one.
    """
    counts = {
        key
        for key, value in state.items()
        if value.numel() == 1 and value.dtype in _WHOLE and not value.is_sparse and not value.is_quantized
    }
    if len(counts) == len(state):  # then there is nothing to read, which others say better
        return dict(state)
    left = {key: value for key, value in state.items() if key not in counts}
    return left | {key: state[key].float() for key in _TELLING if key in counts}


def check_weights(state: StateDict) -> None:
    """Floating-point numbers, all finite, also in float32, as they are used.

    Raises:
        CheckpointError: names the tensors that are not.
    """
    allowed = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    odd = [key for key in state if not key.isprintable()]
    if odd:
        raise CheckpointError(f"a tensor is called {printable(odd[0])}, as no network calls one")
    for key, value in state.items():
        if value.dtype not in allowed or value.is_sparse or value.is_quantized:
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{key[:80]} holds {kind}, but weights are float64, float32, float16 or bfloat16")
    counts = {key: int((~torch.isfinite(value.float())).sum()) for key, value in state.items()}
    broken = {key: number for key, number in counts.items() if number}
    if broken:
        first = ", ".join(f"{number} in {key[:60]}" for key, number in list(broken.items())[:3])
        raise CheckpointError(
            f"{len(broken)} of its {len(state)} tensors have NaN or infinite values ({first}); it cannot give an image"
        )
