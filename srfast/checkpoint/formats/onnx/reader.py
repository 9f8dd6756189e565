"""ONNX files of convolutional networks, as modules of plain PyTorch layers.

Nothing is read but the file and, where it says so, a plain file of weights in its folder.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, fx, nn
from torch.nn import functional as F

from srfast.checkpoint.formats.onnx import moving, wire
from srfast.checkpoint.formats.onnx.functions import inlined
from srfast.checkpoint.formats.onnx.images import Image, Images, Rearranged
from srfast.checkpoint.formats.onnx.moves import Moved
from srfast.checkpoint.formats.onnx.numbers import OPERATIONS as FOLDED
from srfast.checkpoint.formats.onnx.numbers import Folding, Sizes
from srfast.checkpoint.formats.onnx.ops import OPERATIONS, POINTWISE, group_norm, grouped, pixel_norm, resized
from srfast.checkpoint.formats.onnx.patterns import simplify
from srfast.checkpoint.formats.onnx.tensors import FLOATS, array_of, finite
from srfast.errors import CheckpointError, MissingDependencyError, printable, quoted
from srfast.models.bordered import Bordered

MAX_NODES = 5_000  # RRDBNet-23 has 1,300
CHANNEL_SCALES = 21  # the first operation set whose GroupNormalization has a scale a channel
MAX_BYTES = 2 << 30  # of all weights that layers read, each as often as it is read
# PyTorch 2.11 asserts some shapes on the meta device.
_WRONG = (ValueError, LookupError, TypeError, RuntimeError, AttributeError, ArithmeticError, AssertionError)

Value: TypeAlias = "Image | Rearranged | Sizes | np.ndarray[Any, Any] | None"


class OnnxNetwork(Bordered):
    """A network whose file pads the image and crops the result.

    Args:
        graph: what lies between.
        scale, border, multiple: as in ``Bordered``.
        in_channels: of the image.
    """

    def __init__(self, graph: nn.Module, scale: int, border: int, multiple: int, in_channels: int) -> None:
        super().__init__()
        self.graph, self.scale, self.border, self.multiple = graph, scale, border, multiple
        self.in_channels = in_channels

    def body(self, x: Tensor) -> Tensor:
        """[N, C, H + 2 * border, W + 2 * border] -> [N, C', scale * H, scale * W]."""
        result: Tensor = self.graph(x)
        return result


def read_onnx(path: Path) -> nn.Module:
    """The network as a traced module, float32.

    Raises:
        CheckpointError: the file is damaged, refers to files elsewhere, or has an operation that is not covered.
        MissingDependencyError: the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(f"reading {path} needs the package onnx: pip install onnx ({error})") from error
    try:
        data = path.read_bytes()
        wire.check(data, onnx.ModelProto.DESCRIPTOR)
        model = onnx.load_model_from_string(data)
    except (CheckpointError, OSError) as error:
        raise CheckpointError(*quoted(error, f"{path} is not a valid ONNX file: ")) from error
    except Exception as error:  # protobuf has many of its own
        raise CheckpointError(f"{path} is not a valid ONNX file: {type(error).__name__}") from error
    try:
        return _Reader(model, path.parent).module()
    except (CheckpointError, *_WRONG) as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())[:300] or type(error).__name__}") from error


def input_channels(module: nn.Module) -> int:
    """Channels of the image that a network from ``read_onnx`` takes; 3 where no convolution tells."""
    if isinstance(module, OnnxNetwork):
        return module.in_channels
    channels = next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)), 3)
    for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
        if node.target is F.pixel_unshuffle:  # only ever of the input
            return channels // int(node.args[1]) ** 2
    return channels


class _Reader:
    """Reads one ONNX node at a time."""

    def __init__(self, model: Any, folder: Path) -> None:
        graph = model.graph
        self.nodes = inlined(model, MAX_NODES)
        if graph.sparse_initializer:
            raise CheckpointError("it has sparse weights, which are not read")
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
        self.folder = folder
        self.graph = graph
        self.values: dict[str, Value] = {tensor.name: array_of(tensor, folder) for tensor in graph.initializer}
        self.numbers = Folding()
        self.read = 0  # bytes of weights that layers read
        self.images = self._input()

    def _input(self) -> Images:
        inputs = [value for value in self.graph.input if value.name not in self.values]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise CheckpointError(
                f"it has {len(inputs)} inputs and {len(self.graph.output)} outputs, not one image each"
            )
        kind = inputs[0].type.tensor_type
        if kind.elem_type not in FLOATS:
            raise CheckpointError(
                f"its input {printable(inputs[0].name)} has the ONNX type {kind.elem_type}, not float or float16; export the "
                "network for images in 0..1"
            )
        dims = [dim.dim_value for dim in kind.shape.dim] or [0] * 4
        if len(dims) != 4 or min(dims) < 0 or max(dims[0], dims[1]) > 64 or max(dims) > 1 << 16:
            raise CheckpointError(f"its input has the shape {str(dims)[:60]}, expected an image [N, C, H, W]")
        images = Images([dims[0], dims[1] or self._channels(), *dims[2:]], any(n.op_type == "Pad" for n in self.nodes))
        self.values[inputs[0].name] = Image(images.input, "input")
        return images

    def _channels(self) -> int:
        """Of an input that does not tell: those of the first convolution, if an image may have them."""
        for node in self.nodes:
            weight = self.values.get(node.input[1]) if node.op_type == "Conv" and len(node.input) > 1 else None
            if isinstance(weight, np.ndarray) and weight.ndim == 4 and weight.shape[1] in (1, 3, 4):
                return int(weight.shape[1])
        return 3

    def _check_names(self) -> None:
        """Refuse, before any layer is made, what no layer covers and what reads a name that nothing writes before it."""
        written = set(self.values)
        for node in self.nodes:
            if node.op_type != "Constant" and (node.domain not in ("", "ai.onnx") or node.op_type not in _KINDS):
                at = printable(node.name or "".join(node.output[:1]))
                raise CheckpointError(f"no layer covers the operation {printable(node.op_type)} (at {at})")
            missing = next((name for name in node.input if name and name not in written), None)
            if missing is not None:
                raise CheckpointError(f"a {printable(node.op_type)} reads {printable(missing)}, which nothing writes")
            written.update(node.output)

    def module(self) -> nn.Module:
        self._check_names()
        for node in self.nodes:
            try:
                self.add(node)
            except _WRONG as error:
                what = f"{printable(node.op_type)} at {printable(node.name or ''.join(node.output[:1]))}"
                raise CheckpointError(f"{what}: {error}") from error
        name = self.graph.output[0].name
        result = self.values.get(name)
        if not isinstance(result, (Image, Rearranged)):
            raise CheckpointError(f"its result {printable(name)} is no image, or nothing writes it")
        image = self.images.settled(result)
        if image.node is self.images.input:
            raise CheckpointError("its result is its input")
        return self._whole(image)

    def _whole(self, result: Image) -> nn.Module:
        """The module, and where the file pads, what the engine has to do instead."""
        images = self.images
        images.with_orders_folded()
        images.fx.output(result.node)
        simplify(images.fx, images.root)
        graph = fx.GraphModule(images.root, images.fx).float().eval()
        if not images.padded:
            return graph
        shapes = images.shapes(result)
        scales = {(h / gh, w / gw) for (_, _, h, w), (_, _, gh, gw) in zip(shapes, images.given, strict=True)}
        scale = next(iter(scales))[0]
        if images.strange:
            raise CheckpointError(f"a {printable(images.strange)} reads the image beside what was padded of it")
        if scales != {(scale, scale)} or scale != int(scale) or (images.multiple > 1 and result.place != "result"):
            raise CheckpointError(
                f"it pads {list(images.given[-1])} and makes {list(shapes[-1])} of it, no enlarged image"
            )
        return OnnxNetwork(graph, int(scale), images.border, images.multiple, images.given[0][1])

    def add(self, node: Any) -> None:
        kind = node.op_type
        attributes = {a.name: _attribute(a, self.folder) for a in node.attribute}
        if kind == "Constant":
            self.values[node.output[0]] = _constant(attributes)
            return
        inputs = [self.values[name] if name else None for name in node.input]
        if any(isinstance(value, (Image, Rearranged)) for value in inputs):
            results = self._of_images(kind, inputs, attributes, len(node.output))
        elif kind in FOLDED:
            results = [self.numbers.evaluate(kind, inputs, attributes, len(self.images.given))]
        else:
            raise CheckpointError(f"a {kind} of stored numbers is not covered")
        self.values.update(zip(node.output, results, strict=False))

    def _of_images(self, kind: str, inputs: list[Value], a: dict[str, Any], outputs: int) -> list[Value]:
        special = _SPECIAL.get(kind)
        if special is not None and isinstance(inputs[0], (Image, Rearranged)):
            return special(self, inputs, a, outputs)
        convert = OPERATIONS.get(kind)
        if convert is None:
            raise CheckpointError(f"a {kind} of an image is not covered")
        first = inputs[0]
        padding = first.zeros if kind == "Conv" and isinstance(first, Image) else 0
        if padding and isinstance(first, Image):
            pads = [n + padding for n in a.get("pads", [0] * 4)]
            a, inputs = a | {"pads": pads}, [Image(first.node, first.place, first.factor, first.windows), *inputs[1:]]
        settled = [self._settled(value, kind) for value in inputs]
        images = [value for value in settled if isinstance(value, Image)]
        place = (self.images.pointwise if kind in POINTWISE else self.images.beyond)(images, kind)
        values = [value.node if isinstance(value, Image) else value for value in settled]
        if kind not in POINTWISE:
            if not isinstance(values[0], fx.Node):
                raise CheckpointError(f"a {kind} of stored numbers is not covered")
            self.read += sum(4 * value.size for value in values if isinstance(value, np.ndarray))
            if self.read > MAX_BYTES:
                raise CheckpointError(f"its layers read more than {MAX_BYTES} bytes of weights")
        return [Image(convert(self.images, values, a), place.place, place.factor)]

    def _settled(self, value: Value, kind: str) -> Any:
        """What a layer reads: an image as such, numbers that do not depend on its size, or nothing."""
        if isinstance(value, (Image, Rearranged)):
            return self.images.settled(value)
        if isinstance(value, Sizes):
            found = value.settled()
            if found is None:
                raise CheckpointError(f"a {kind} computes with the size of the image")
            return finite(found, f"an operand of a {kind}")
        return value


def _resize(r: _Reader, inputs: list[Value], a: dict[str, Any], outputs: int) -> list[Value]:
    """By scales or to a size; whatever is written, by one factor."""
    value = inputs[0]
    assert isinstance(value, (Image, Rearranged))
    image = r.images.settled(value)
    shapes = r.images.shapes(image)
    axes = [int(n) % 4 for n in a.get("axes", range(4))]
    if axes not in ([0, 1, 2, 3], [2, 3]) or a.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise CheckpointError("a Resize has axes of its own")
    given = [value for value in inputs[1:] if isinstance(value, (np.ndarray, Sizes))]
    numbers = [v.arrays if isinstance(v, Sizes) else (v,) * len(shapes) for v in given]
    # Of region, scales and sizes, all but one are empty; a region has a number for each end of each axis.
    numbers = [v for v in numbers if v[0].size == len(axes)] or [(np.asarray(a.get("scales", [])),) * len(shapes)]
    factors = set()
    for shape, array in zip(shapes, numbers[-1], strict=True):
        whole = array.dtype.kind in "iu"
        each = dict.fromkeys(range(4), Fraction(1))
        for axis, number in zip(axes, array.reshape(-1).tolist(), strict=True):
            each[axis] = Fraction(number, shape[axis]) if whole else Fraction(number).limit_denominator(1000)
        factors.add(tuple(each[axis] for axis in range(4)))
    found = factors.pop() if len(factors) == 1 else None
    if found is None or found[0] != 1 or found[1] != 1 or found[2] != found[3]:
        raise CheckpointError("a Resize has no fixed scales, or different ones for height and width")
    if found[2] == 1:
        return [image]
    node = resized(r.images, image.node, found[2], a, r.opset)
    if image.place == "input" and a.get("mode", b"nearest") == b"nearest" and found[2].denominator == 1:
        return [Image(node, "result", int(found[2]))]
    return [Image(node, r.images.beyond([image], "Resize").place)]


def _normalised(r: _Reader, inputs: list[Value], a: dict[str, Any], outputs: int) -> list[Value]:
    """An InstanceNormalization, of channels or of groups that were made channels."""
    value = inputs[0]
    if isinstance(value, Rearranged):
        groups = value.moves[0].shape[1] if len(value.moves[0].shape) > 2 else 0
        sources = r.images.shapes(value.image)
        fits = all(
            moved == Moved.of(shape).reshaped(moved.shape) and moved.shape[:2] == (shape[0], groups)
            for moved, shape in zip(value.moves, sources, strict=True)
        )
        if fits and groups and sources[0][1] % groups == 0:
            place = r.images.beyond([value.image], "InstanceNormalization")
            node = grouped(r.images, value.image.node, groups, sources[0][1], inputs, a)
            return [Rearranged(Image(node, place.place), value.moves)]
    settled = r._settled(value, "InstanceNormalization")
    place = r.images.beyond([settled], "InstanceNormalization")
    return [Image(OPERATIONS["InstanceNormalization"](r.images, [settled.node, *inputs[1:]], a), place.place)]


def _group_norm(r: _Reader, inputs: list[Value], a: dict[str, Any], outputs: int) -> list[Value]:
    """A GroupNormalization: before operation set 21 it had a scale for each group, since then for each channel."""
    image = r._settled(inputs[0], "GroupNormalization")
    place = r.images.beyond([image], "GroupNormalization")
    groups, channels = int(a["num_groups"]), r.images.shapes(image)[0][1]
    make = grouped if r.opset < CHANNEL_SCALES else group_norm
    return [Image(make(r.images, image.node, groups, channels, inputs, a), place.place)]


def _layer_norm(r: _Reader, inputs: list[Value], a: dict[str, Any], outputs: int) -> list[Value]:
    """Over the channels of each pixel, where those were put last."""
    value = inputs[0]
    if isinstance(value, Rearranged) and a.get("axis", -1) in (-1, 3):
        sources = r.images.shapes(value.image)
        if all(
            moved == Moved.of(shape).transposed([0, 2, 3, 1]) for moved, shape in zip(value.moves, sources, strict=True)
        ):
            node = pixel_norm(r.images, value.image.node, sources[0][1], inputs, a)
            return [Rearranged(Image(node, value.image.place, value.image.factor), value.moves)]
    raise CheckpointError("a LayerNormalization is over other axes than the channels of each pixel")


def _shuffle(kind: str) -> Callable[[_Reader, list[Value], dict[str, Any], int], list[Value]]:
    def convert(r: _Reader, inputs: list[Value], a: dict[str, Any], outputs: int) -> list[Value]:
        image = r._settled(inputs[0], kind)
        factor = int(a["blocksize"])
        moving.check_factor(kind, factor)
        torch_order = kind == "DepthToSpace" and a.get("mode", b"DCR") == b"CRD"
        name = "shuffle" if kind == "DepthToSpace" else "unshuffle"
        return [r.images.shuffled(image, name if torch_order else f"{name} DCR", factor)]

    return convert


def _cast(r: _Reader, inputs: list[Value], a: dict[str, Any], outputs: int) -> list[Value]:
    if a.get("to", 1) not in FLOATS:
        raise CheckpointError(f"a Cast to the ONNX type {a['to']} cuts off fractions")
    return [inputs[0]]


def _pad(r: _Reader, inputs: list[Value], a: dict[str, Any], outputs: int) -> list[Value]:
    image = r._settled(inputs[0], "Pad")
    return [moving.pad(r.images, image, inputs, a)]


_SPECIAL: dict[str, Callable[[_Reader, list[Value], dict[str, Any], int], list[Value]]] = {
    "Resize": _resize,
    "Upsample": _resize,
    "InstanceNormalization": _normalised,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "DepthToSpace": _shuffle("DepthToSpace"),
    "SpaceToDepth": _shuffle("SpaceToDepth"),
    "Cast": _cast,
    "CastLike": _cast,
    "Pad": _pad,
    "Identity": lambda r, inputs, a, outputs: [inputs[0]],
    "Dropout": lambda r, inputs, a, outputs: [inputs[0]],
    **{
        kind: lambda r, inputs, a, outputs, move=move: move(r.images, inputs, a, outputs)  # type: ignore[misc]
        for kind, move in moving.MOVES.items()
    },
}
_KINDS = frozenset(OPERATIONS) | frozenset(_SPECIAL) | FOLDED


def _constant(attributes: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The numbers of a Constant: a tensor, or one or several numbers."""
    if isinstance(attributes.get("value"), np.ndarray):
        return attributes["value"]  # type: ignore[no-any-return]
    for name, kind in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in attributes:
                return finite(np.asarray(attributes[key], dtype=kind), "a Constant")
    raise CheckpointError(f"a Constant holds {', '.join(map(printable, attributes))[:60] or 'nothing'}, not numbers")


def _attribute(attribute: Any, folder: Path) -> Any:
    kinds = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}
    if attribute.type == 4:
        return array_of(attribute.t, folder)
    if attribute.type not in kinds:
        raise CheckpointError(
            f"attribute {printable(attribute.name)} holds something other than numbers; subgraphs are not read"
        )
    value = getattr(attribute, kinds[attribute.type])
    return list(value) if attribute.type in (6, 7) else value
