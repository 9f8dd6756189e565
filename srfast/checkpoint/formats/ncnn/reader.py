"""ncnn networks (https://github.com/Tencent/ncnn) as modules of plain PyTorch layers: a .param text and a .bin of numbers."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from srfast.checkpoint.formats.graph import GraphBuilder
from srfast.checkpoint.formats.ncnn.ops import OPERATIONS, Blob
from srfast.checkpoint.formats.ncnn.text import MAX_TEXT, Layer, parse
from srfast.checkpoint.formats.ncnn.weights import BinWeights, NamedWeights, Weights
from srfast.errors import CheckpointError, printable, quoted
from srfast.models.bordered import Bordered

BINARY_MAGIC = b"\xdd\x85\x76\x00"  # of a .param.bin
TEXT_KEY = "ncnn.param"  # of the text in a converted file's metadata
_MAX_BORDER = 256
_ERRORS = (ValueError, IndexError, KeyError, TypeError, RuntimeError, OverflowError, AttributeError, ZeroDivisionError)


class NcnnNetwork(Bordered):
    """A network as its file has it, and the border that programs put around its images.

    Args:
        graph: the layers.
        scale, border, multiple: as in ``Bordered``.
        base: add the image, its pixels repeated, as the programs that run Real-CUGAN x4 do themselves.
        text: of the .param file.
        numbers: those of the .bin file by ``layer.what``.
    """

    def __init__(
        self,
        graph: nn.Module,
        scale: int,
        border: int,
        multiple: int,
        base: bool,
        architecture: str,
        text: bytes,
        numbers: dict[str, Tensor],
    ) -> None:
        super().__init__()
        self.graph, self.scale, self.border, self.multiple = graph, scale, border, multiple
        self.base, self.architecture, self.text, self.numbers = base, architecture, text, numbers

    def body(self, x: Tensor) -> Tensor:
        """[N, C, H + 2 * border, W + 2 * border] -> [N, C, scale * H, scale * W]."""
        y: Tensor = self.graph(x)
        if not self.base:
            return y
        image = x[:, :, self.border : -self.border, self.border : -self.border]
        return y + F.interpolate(image, scale_factor=self.scale, mode="nearest")


def read_ncnn(path: Path, max_bytes: int) -> NcnnNetwork:
    """The network of a .param file, with the .bin file beside it.

    Args:
        path: either of the two.
        max_bytes: of the .bin file.

    Raises:
        CheckpointError: one of the two is missing or damaged, or has a layer that is not covered.
    """
    param, numbers = path.with_suffix(".param"), path.with_suffix(".bin")
    for file in (param, numbers):
        if not file.is_file():
            raise CheckpointError(
                f"{path} is half of an ncnn network; the other, {printable(file.name)}, is not beside it"
            )
    try:
        if param.stat().st_size > MAX_TEXT or numbers.stat().st_size > max_bytes:
            raise CheckpointError(f"{path}: more than {MAX_TEXT} bytes of text or {max_bytes} of numbers")
        text, data = param.read_bytes(), numbers.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if text.startswith(BINARY_MAGIC):
        raise CheckpointError(f"{param} is ncnn's binary form without names; give the .param file that is text")
    try:
        return network(text, BinWeights(memoryview(data)))
    except CheckpointError as error:
        raise CheckpointError(*quoted(error, f"{param}: ")) from error


def read_converted(text: str, state: dict[str, Tensor]) -> NcnnNetwork:
    """The network that ``srfast convert`` wrote: the text and its numbers as named tensors.

    Raises:
        CheckpointError: they do not fit together.
    """
    return network(text.encode(), NamedWeights(state))


def network(text: bytes, weights: BinWeights | NamedWeights) -> NcnnNetwork:
    """The module for a text and its numbers.

    Raises:
        CheckpointError: says what does not fit, or which layer is not covered.
    """
    layers = parse(text)
    reader = _Reader(weights)
    at = layers[0]
    try:
        for at in layers:
            reader.add(at)
    except _ERRORS as error:
        raise CheckpointError(f"layer {printable(at.name)} ({printable(at.kind)}): {_line(error)}") from error
    except CheckpointError as error:
        raise CheckpointError(*quoted(error, f"layer {printable(at.name)} ({printable(at.kind)}): ")) from error
    weights.finish()
    graph, result = reader.module()
    scale, border = _enlargement(result)
    numbers = {
        name: torch.from_numpy(value) if value.flags.writeable else torch.tensor(value)
        for name, value in weights.taken.items()
    }
    architecture = _architecture(layers, scale, border)
    # The programs that run these networks add the image themselves (realcugan-ncnn-vulkan, realcugan_4x_postproc).
    base = architecture == "Real-CUGAN" and scale == 4
    return NcnnNetwork(graph, scale, border, reader.multiple, base, architecture, text, numbers)


class _Reader(GraphBuilder):
    """Builds an fx graph, one layer at a time."""

    def __init__(self, weights: BinWeights | NamedWeights) -> None:
        super().__init__()
        self.weights: Weights = weights
        self.blobs: dict[str, Blob] = {}
        self.unread: dict[str, Blob] = {}
        self.multiple = 1
        self.input: Blob | None = None
        self.names: set[str] = set()

    def add(self, at: Layer) -> None:
        if at.name in self.names:
            raise CheckpointError("two layers have the same name")
        self.names.add(at.name)
        inputs = [self._read(name) for name in at.inputs]
        if at.kind == "Input":
            result = self._image(at)
        elif at.kind not in OPERATIONS:
            raise CheckpointError("srfast has no such layer")
        elif not inputs and at.kind != "MemoryData":
            raise CheckpointError("it reads nothing")
        else:
            if at.kind not in ("BinaryOp", "Scale", "Split") and any(not isinstance(x.value, fx.Node) for x in inputs):
                raise CheckpointError("it reads stored numbers")
            result = OPERATIONS[at.kind](self, at, inputs)
        if result.scale:
            self.multiple = math.lcm(self.multiple, result.scale.denominator)
        if self.multiple > 64:
            raise CheckpointError(f"its sides would be multiples of {self.multiple} pixels (at most 64)")
        for name in at.outputs:
            if name in self.blobs:
                raise CheckpointError(f"blob {printable(name)} is written twice")
            self.blobs[name] = self.unread[name] = result
        if len(at.outputs) != 1 and at.kind != "Split":
            raise CheckpointError(f"it writes {len(at.outputs)} blobs")

    def module(self) -> tuple[nn.Module, Blob]:
        """The layers, and what they give in the end."""
        if self.input is None or len(self.unread) != 1:
            names = ", ".join(printable(name) for name in list(self.unread)[:3])
            raise CheckpointError(f"it has {len(self.unread)} results ({names}), expected one image in and one out")
        result = next(iter(self.unread.values()))
        if not isinstance(result.value, fx.Node) or result.pooled or result.channels is None:
            raise CheckpointError("its result is no image")
        self.fx.output(result.value)
        return fx.GraphModule(self.root, self.fx).float().eval(), result

    def _image(self, at: Layer) -> Blob:
        if self.input is not None:
            raise CheckpointError("it takes a second input; srfast runs one image in, one out")
        channels = at.whole(2)
        if not 0 <= channels <= 16:
            raise CheckpointError(f"its image has {channels} channels (at most 16)")
        self.input = Blob(self.fx.placeholder("input"), channels or None)
        return self.input

    def _read(self, name: str) -> Blob:
        if name not in self.blobs:
            raise CheckpointError(f"it reads {printable(name)}, which no layer before it writes")
        self.unread.pop(name, None)
        return self.blobs[name]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _enlargement(result: Blob) -> tuple[int, int]:
    """Scale and border of the network."""
    # What the convolutions without padding lose is what a border has to bring; half of it on each side.
    scale, missing = result.scale, -result.offset
    whole = scale.denominator == 1 and 1 <= scale <= 16
    if not whole or missing < 0 or missing % (2 * int(scale)) or missing // (2 * int(scale)) > _MAX_BORDER:
        raise CheckpointError(
            f"it makes {float(scale):g} n - {missing} pixels of n, expected a whole enlargement, alike on both sides"
        )
    return int(scale), missing // (2 * int(scale))


def _architecture(layers: list[Layer], scale: int, border: int) -> str:
    """As people call it, by what its layers are; "ncnn graph" for others."""
    kinds = Counter(at.kind for at in layers)
    convs = kinds["Convolution"]
    if border and kinds["Deconvolution"]:
        if kinds["Pooling"] and kinds["Scale"]:
            return "waifu2x cunet"
        if convs == 6 and border == 7:
            return "waifu2x upconv_7"
        if kinds["Crop"] >= 4 and convs in (18, 19):
            return "Real-CUGAN"
    elif kinds["Swish"] and kinds["Sigmoid"] and not border:
        return "SPAN"
    elif kinds["PReLU"] and kinds["PReLU"] + 1 == convs and kinds["PixelShuffle"]:
        return "SRVGGNetCompact"
    elif kinds["Eltwise"] and kinds["Concat"] and (convs - 6) % 15 == 0:
        return "RRDBNet"
    return "ncnn graph"
