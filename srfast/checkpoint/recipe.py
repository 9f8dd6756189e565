"""What every reader of a layout uses: renaming of keys, counting of blocks, and the result."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from srfast.errors import CheckpointError

StateDict = Mapping[str, Tensor]
MAX_BLOCKS = 256  # of one kind; the deepest public network has 32


@dataclass(frozen=True)
class Hints:
    """What a user may say where neither keys nor shapes tell it.

    Attributes:
        scale: 3 for networks of one upsampling step by repeated pixels, whose keys are those of scale 2.
        act: "leakyrelu" for SRVGGNetCompact without slopes (else ReLU).
        res_scale: gain of EDSR's blocks (else 0.1 from 256 channels on, as published).
    """

    scale: int | None = None
    act: str | None = None
    res_scale: float | None = None


GUESSED_SCALE = "an enlargement of 2 and one of 3, and 2 was taken; for 3 give --model-scale 3 (scale=3)"
GUESSED_ACT = "ReLU and leaky ReLU, and ReLU was taken; for the other give --act leakyrelu (act='leakyrelu')"


@dataclass(frozen=True)
class Recipe:
    """A module's class and arguments, and its state_dict with the keys of that class.

    ``guesses`` says what neither keys, shapes nor hints told, and how to tell it.
    """

    module: type[nn.Module]
    arguments: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)
    guesses: tuple[str, ...] = ()

    def build(self) -> nn.Module:
        """Make the module, with the weights that its class begins with."""
        return self.module(**self.arguments)


@dataclass(frozen=True)
class Layout:
    """Keys that one program writes for one architecture.

    Attributes:
        architecture: as people call it.
        origin: who writes these keys.
        marks: keys that only this layout has together.
        read: from a state_dict to a module and its own keys.
        values: what the network sees and gives; srfast converts from and to 0..1, RGB.
    """

    architecture: str
    origin: str
    marks: tuple[str, ...]
    read: Callable[[StateDict, Hints], Recipe]
    values: str = "0..1"


@dataclass(frozen=True)
class Row:
    """A line of the table in ``docs/models.md``.

    Attributes:
        name: of the architecture, as people call it.
        writers: programs that write such files.
        tiles: "exact", with the receptive field where it is one number, or "none" and why.
        hint: what only a hint tells, as an option of the command.
        files: kinds of files that hold it.
    """

    name: str
    writers: str
    tiles: str
    hint: str = "-"
    files: str = "`.pth`, `.safetensors`"


@dataclass(frozen=True)
class Architecture:
    """All that srfast has to know of a network beside its module; ``registry`` collects these from ``readers``.

    Attributes:
        module: the network's class in ``srfast.models``.
        layouts: of the files that hold its weights.
        depth: arguments of the class that count blocks in one another or in a row. A file that names its network itself
            may not ask for more than ``MAX_BLOCKS`` of each, nor for more of them together than it has tensors.
        rows: of the table of architectures in the documentation.
    """

    module: type[nn.Module]
    layouts: tuple[Layout, ...]
    depth: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()


UNSIGNED = "0..1; the result is limited to it"

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def renamed(state: StateDict, rules: Sequence[Rule]) -> dict[str, Tensor]:
    """Each key with the beginning that the first fitting rule matches replaced; others as they are.

    A rule that gives "" drops the key.
    """
    compiled = [(re.compile(pattern), new) for pattern, new in rules]
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, new in compiled:
            match = pattern.match(key)
            if match:
                begin = match.expand(new) if isinstance(new, str) else new(match)
                key = begin + key[match.end() :] if begin else ""
                break
        # Silently keeping one of them would give a network that nobody trained.
        if key in result:
            raise CheckpointError(f"two tensors of the file mean the same weight, {key!r}")
        if key:
            result[key] = value
    return result


def shifted(template: str, by: int) -> Callable[[re.Match[str]], str]:
    """A replacement with group 1 as a number plus ``by`` at ``{}``; further groups as \\2, \\3."""
    return lambda match: match.expand(template.format(int(match[1]) + by))


def count(state: StateDict, pattern: str) -> int:
    """Number of consecutive N from 0 for which ``pattern.format(N)`` is a key."""
    n = 0
    while pattern.format(n) in state:
        n += 1
        # A file may name as many layers as it likes; each would become modules before any shape is compared.
        if n > MAX_BLOCKS:
            raise CheckpointError(f"more than {MAX_BLOCKS} layers are called {pattern.format('N')}")
    return n


def count_from_one(state: StateDict, pattern: str) -> int:
    """Number of consecutive N from 1 for which ``pattern.format(N)`` is a key."""
    return count({pattern.format(0): torch.empty(0), **state}, pattern) - 1


def chain_of_blocks(state: StateDict, first: str, block: str) -> dict[str, Any]:
    """Arguments of a chain of blocks: planes and width by its first convolution, and how many blocks there are from 1 on.

    Args:
        state: of the network.
        first: key of the first convolution's weight.
        block: key of a weight in block ``{}``.
    """
    width, planes = shape(state, first)[:2]
    return {"num_in_ch": planes, "num_feat": width, "num_blocks": count_from_one(state, block)}


def planes_shuffled(shuffled: int, likely: int) -> int:
    """Colour planes of a result that is shuffled into a square of pixels: as many as come in, if that fits, else 3 or 1."""
    for planes in (likely, 3, 1):
        root = round((shuffled / planes) ** 0.5)
        if root >= 1 and root * root * planes == shuffled:
            return planes
    raise CheckpointError(f"its last convolution has {shuffled} channels, no square of pixels")


def side(name: str, square: float) -> int:
    """The whole square root of a ratio of channels.

    Raises:
        CheckpointError: it is none.
    """
    root = round(math.sqrt(square))
    if root < 1 or root * root != square:
        raise CheckpointError(f"{name} has {square:g} times the channels of a pixel, not a square of a whole number")
    return root


def shape(state: StateDict, key: str) -> torch.Size:
    """Of a convolution's weight.

    Raises:
        CheckpointError: it is missing or has not four dimensions.
    """
    if key not in state or state[key].ndim != 4 or 0 in state[key].shape:
        found = "missing" if key not in state else f"of shape {list(state[key].shape)}"
        raise CheckpointError(f"{key} is {found}; a convolution's weight has four dimensions")
    return state[key].shape


def with_zero_biases(state: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """For layouts whose convolutions have no bias."""
    for name in names:
        weight = state.get(f"{name}.weight")
        if weight is not None and weight.ndim == 4:
            state.setdefault(f"{name}.bias", weight.new_zeros(weight.shape[0]))
    return state
