"""Images while an ONNX graph is read: how large they are for several sizes of the input, how they were padded, cropped and moved.

Exported networks compute the sizes that they pad to and crop by. A graph is read with several sizes of the input at once; what it
computes for them tells that it pads to a multiple, and crops to the enlarged input. The network is then one that the engine
gives a mirrored border (``srfast.models.Bordered``), and reads images of any size, also where its file fixes one.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import fx, nn
from torch.func import functional_call
from torch.nn import functional as F

from srfast.checkpoint.formats.graph import GraphBuilder
from srfast.checkpoint.formats.onnx.moves import Moved
from srfast.checkpoint.formats.onnx.numbers import Sizes
from srfast.errors import CheckpointError

FxNode: TypeAlias = fx.Node
MAX_BORDER = 256
MAX_MULTIPLE = 64
MAX_PERMUTED = 1 << 22  # numbers in matrices that put channels in another order
# Those of graphs without Pad are multiples of all factors, as they only take such. The others tell all multiples apart.
_WHOLE = ((48, 96), (96, 144))
_ODD = ((48, 96), (97, 73), (119, 89), (77, 61))


@dataclass(frozen=True)
class Window:
    """Rows and columns of an image, from the first to one past the last."""

    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class Image:
    """What a node of the new graph gives.

    Attributes:
        node: in the new graph, whose input is padded already.
        place: "input" for the image as it is given, "body" for what is computed of it with its padding, "result" for what was
            cropped to ``factor`` times the given image.
        factor: see above; 0 elsewhere.
        windows: what a Slice left of it, for each size that is tried.
        zeros: rows and columns of zeros around it, which the next convolution pads it with.
    """

    node: FxNode
    place: str = "body"
    factor: int = 0
    windows: tuple[Window, ...] | None = None
    zeros: int = 0


@dataclass(frozen=True)
class Rearranged:
    """An image whose pixels were moved, for each size that is tried."""

    image: Image
    moves: tuple[Moved, ...]


class Images(GraphBuilder):
    """The new graph, with the sizes of what its nodes give.

    Args:
        shape: of the input, [N, C, H, W]; 0 for what is free.
        pads: the graph pads images, and so takes them of any size.
    """

    def __init__(self, shape: Sequence[int], pads: bool) -> None:
        super().__init__()
        count, channels, rows, columns = shape
        sides = dict.fromkeys((rows or h, columns or w) for h, w in (_ODD if pads else _WHOLE))
        self.given = [(count or 1, channels, *side) for side in sides]
        self.input = self.fx.placeholder("input")
        self.border, self.multiple = 0, 1
        self.padded = False
        self.strange = ""  # an operation that would read other pixels in an image that is padded before
        self._permuted = 0
        self._known: dict[FxNode, list[torch.Tensor]] = {}
        self._last: FxNode | None = None

    def shapes(self, value: Image | Rearranged) -> list[tuple[int, ...]]:
        """Of an image as its file has it, for each size that is tried."""
        if isinstance(value, Rearranged):
            return [moved.shape for moved in value.moves]
        shapes = [tuple(int(n) for n in tensor.shape) for tensor in self._tensors(value.node)]
        if value.place != "body":
            times = value.factor or 1
            shapes = [(n, c, h * times, w * times) for (n, c, *_), (_, _, h, w) in zip(shapes, self.given, strict=True)]
        if value.windows is not None:
            shapes = [
                (n, c, w.rows[1] - w.rows[0], w.columns[1] - w.columns[0])
                for (n, c, *_), w in zip(shapes, value.windows, strict=True)
            ]
        return [(*shape[:2], *(n + 2 * value.zeros for n in shape[2:])) for shape in shapes]

    def _tensors(self, node: FxNode) -> list[torch.Tensor]:
        """Without numbers; what the nodes up to this one give."""
        while node not in self._known:
            at = next(iter(self.fx.nodes)) if self._last is None else self._last.next
            self._known[at] = [self._run(at, index) for index in range(len(self.given))]
            self._last = at
        return self._known[node]

    def _run(self, node: FxNode, index: int) -> Any:
        if node.op == "placeholder":
            n, c, h, w = self.given[index]
            sides = (side + 2 * self.border + -(side + 2 * self.border) % self.multiple for side in (h, w))
            return torch.empty(n, c, *sides, device="meta")
        if node.op == "get_attr":
            return self.root.get_buffer(str(node.target)).to("meta")
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self._known[n][index])
        if node.op == "call_module":
            module = self.root.get_submodule(str(node.target))
            state = {k: v.detach().to("meta") for k, v in (*module.named_parameters(), *module.named_buffers())}
            return functional_call(module, state, args)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def settled(self, value: Image | Rearranged) -> Image:
        """What a layer reads: with its crops and moves as operations of the new graph.

        Raises:
            CheckpointError: they are none that an image of any size has.
        """
        if isinstance(value, Rearranged):
            return self._unmoved(value)
        if value.zeros:
            raise CheckpointError("an image padded with zeros goes to something other than one convolution")
        return value if value.windows is None else self._cropped(value)

    def _unmoved(self, value: Rearranged) -> Image:
        sources = self.shapes(value.image)
        kinds = {moved.kind(shape) for moved, shape in zip(value.moves, sources, strict=True)}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is None:
            raise CheckpointError(
                f"an image of {list(sources[0])} is rearranged to {list(value.moves[0].shape)}, which is no pixel-shuffle "
                "and no pixel-unshuffle"
            )
        name, factor = kind
        if name == "same":
            return value.image
        return self.shuffled(value.image, name, factor)

    def shuffled(self, image: Image, kind: str, factor: int) -> Image:
        """An image with pixels from channels, or the other way; ``kind`` as ``Moved.kind`` gives it."""
        node, place = image.node, self.beyond([image], kind.split()[0])
        channels = self.shapes(image)[0][1]
        if kind.startswith("shuffle"):
            if kind.endswith("DCR"):
                node = self.permuted(node, torch.arange(channels).reshape(factor**2, -1).T.reshape(-1).tolist())
            return replace(place, node=self.fx.call_function(F.pixel_shuffle, (node, factor)))
        node = self.fx.call_function(F.pixel_unshuffle, (node, factor))
        if kind.endswith("DCR"):
            order = torch.arange(channels * factor**2).reshape(channels, -1).T.reshape(-1).tolist()
            node = self.permuted(node, order)
        return replace(place, node=node)

    def permuted(self, node: FxNode, order: Sequence[int]) -> FxNode:
        """Channels in another order, by a convolution of ones; ``with_orders_folded`` takes it away again.

        Raises:
            CheckpointError: there are very many.
        """
        count = max(len(order), max(order) + 1)
        self._permuted += len(order) * count
        if self._permuted > MAX_PERMUTED:
            raise CheckpointError("many channels are put in another order")
        inputs = int(self._tensors(node)[0].shape[1])
        weight = torch.zeros(len(order), inputs, 1, 1)
        weight[torch.arange(len(order)), torch.tensor(order)] = 1
        module = nn.Conv2d(inputs, len(order), 1, bias=False, device="meta")
        module.weight = nn.Parameter(weight, requires_grad=False)
        return self.layer(module, node)

    def beyond(self, images: Sequence[Image], kind: str) -> Image:
        """The place of what an operation gives that looks at more than single pixels."""
        if any(image.place != "body" for image in images):
            self.strange = self.strange or kind
        return Image(self.input)

    def pointwise(self, images: Sequence[Image], kind: str) -> Image:
        """The place of what an operation gives that looks at each pixel by itself."""
        places = {(image.place, image.factor) for image in images}
        if len(places) == 1:
            return images[0]
        result = next((image for image in images if image.place == "result"), None)
        if result is not None and all(image.place != "body" for image in images) and result.factor == 1:
            return result
        self.strange = self.strange or kind
        return Image(self.input)

    def pad(self, image: Image, pads: Any, mode: str, value: float) -> Image:
        """An image with pixels around it.

        Args:
            pads: of each axis at its beginning, then at its end: an array or ``Sizes``.
            mode: of ONNX's Pad.
            value: of a constant border.

        Raises:
            CheckpointError: it is no border alike on all sides, and no padding to a multiple.
        """
        arrays = pads.arrays if isinstance(pads, Sizes) else (pads,) * len(self.given)
        rows = [[int(n) for n in array.reshape(-1)] for array in arrays]
        if any(len(row) != 8 or row[0] or row[1] or row[4] or row[5] or min(row) < 0 for row in rows):
            raise CheckpointError(f"a Pad of {rows[0][:8]} is not covered: rows and columns are added, nothing else")
        if not any(any(row) for row in rows):
            return image
        same = {n for row in rows for n in (*row[2:4], *row[6:])}
        if mode == "constant" and len(same) == 1 and value == 0:
            return replace(self.settled(image), zeros=same.pop())
        if mode != "reflect":
            raise CheckpointError(f"a Pad by {rows[0]} ({mode}) is not covered: mirrored, or zeros alike on all sides")
        if self.settled(image).place != "input" or image.factor:
            raise CheckpointError("a Pad mirrors something other than the input")
        border = rows[0][2]
        multiple = next((m for m in range(1, MAX_MULTIPLE + 1) if self._fits(rows, border, m)), 0)
        if not multiple or border > MAX_BORDER:
            raise CheckpointError(
                f"a Pad by {rows[-1]} of {list(self.given[-1])} is no border alike on all sides and no padding to a multiple"
            )
        if self.padded and (border, multiple) != (self.border, self.multiple):
            raise CheckpointError("the input is padded in two ways")
        self.padded, self.border, self.multiple = True, border, multiple
        self._known.clear()
        self._last = None
        return replace(image, place="body")

    def _fits(self, rows: list[list[int]], border: int, multiple: int) -> bool:
        return all(
            row[2:4] == [border, border]
            and row[6:] == [border + -(side + 2 * border) % multiple for side in (height, width)]
            for row, (_, _, height, width) in zip(rows, self.given, strict=True)
        )

    def sliced(self, image: Image, spans: Sequence[dict[int, slice]]) -> Image:
        """A part of an image.

        Args:
            spans: for each size that is tried, slices by axis.

        Raises:
            CheckpointError: it leaves pixels or images out between others, or channels by the size.
        """
        windows, channels = [], set()
        for index, (shape, span) in enumerate(zip(self.shapes(image), spans, strict=True)):
            cuts = [span.get(axis, slice(None)).indices(n) for axis, n in enumerate(shape)]
            if any(step != 1 or first >= last for first, last, step in cuts) or cuts[0][:2] != (0, shape[0]):
                raise CheckpointError(f"a Slice of an image leaves {cuts[0][:2]} of its axes, or goes in steps")
            old = image.windows[index] if image.windows else Window((0, 0), (0, 0))
            windows.append(
                Window(
                    *(
                        (before[0] + cut[0], before[0] + cut[1])
                        for before, cut in zip((old.rows, old.columns), cuts[2:], strict=True)
                    )
                )
            )
            channels.add((*cuts[1][:2], shape[1]))
        if len(channels) != 1:
            raise CheckpointError("a Slice leaves channels out by the size of the image")
        first, last, count = channels.pop()
        result = replace(image, windows=tuple(windows))
        if (first, last) == (0, count):
            return result
        part = self.settled(result)
        return replace(
            part, node=self.fx.call_function(operator.getitem, (part.node, (slice(None), slice(first, last))))
        )

    def _cropped(self, image: Image) -> Image:
        windows, whole = image.windows or (), self.shapes(replace(image, windows=None))
        tops, lefts = {w.rows[0] for w in windows}, {w.columns[0] for w in windows}
        bottoms = {shape[2] - w.rows[1] for w, shape in zip(windows, whole, strict=True)}
        rights = {shape[3] - w.columns[1] for w, shape in zip(windows, whole, strict=True)}
        plain = replace(image, windows=None)
        if tops == bottoms == lefts == rights == {0}:
            return plain
        factors = {
            ((w.rows[1] - w.rows[0]) / h, (w.columns[1] - w.columns[0]) / v)
            for w, (_, _, h, v) in zip(windows, self.given, strict=True)
        }
        factor = next(iter(factors))[0]
        to_input = len(factors) == 1 and factor == int(factor) >= 1 and factor == next(iter(factors))[1]
        if self.padded and image.place == "body" and to_input and tops == lefts and len(tops) == 1:
            return Image(self._crop(image.node, tops.pop()), "result", int(factor))
        if len(tops) == len(bottoms) == 1 and tops == lefts and bottoms == rights:
            return replace(self.beyond([plain], "Slice"), node=self._crop(image.node, tops.pop(), bottoms.pop()))
        raise CheckpointError(
            f"a Slice leaves rows {windows[0].rows} and columns {windows[0].columns} of {list(whole[0])}: it is no crop alike on "
            "all sides, and none to the size of the input"
        )

    def _crop(self, node: FxNode, before: int, after: int | None = None) -> FxNode:
        after = before if after is None else after
        if before == after == 0:
            return node
        part = slice(before, -after or None)
        return self.fx.call_function(operator.getitem, (node, (slice(None), slice(None), part, part)))

    def with_orders_folded(self) -> None:
        """Lets the convolutions before or after give and read channels in the order in which they are needed."""
        for node in list(self.fx.nodes):
            layer = self._conv_of(node)
            if layer is None or layer.bias is not None or layer.kernel_size != (1, 1) or not _is_order(layer.weight):
                continue
            order = layer.weight[:, :, 0, 0].argmax(1)
            source = node.all_input_nodes[0]
            before, after = self._conv_of(source), [self._conv_of(user) for user in node.users]
            if before is not None and len(source.users) == 1:
                before.weight = nn.Parameter(before.weight.detach()[order], requires_grad=False)
                if before.bias is not None:
                    before.bias = nn.Parameter(before.bias.detach()[order], requires_grad=False)
            elif after and all(conv is not None for conv in after):
                back = order.argsort()
                for conv in after:
                    assert conv is not None
                    conv.weight = nn.Parameter(conv.weight.detach()[:, back], requires_grad=False)
            else:
                continue
            node.replace_all_uses_with(source)
            self.fx.erase_node(node)

    def _conv_of(self, node: FxNode) -> nn.Conv2d | None:
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        return module if isinstance(module, nn.Conv2d) and module.groups == 1 else None


def _is_order(weight: torch.Tensor) -> bool:
    """Each output is another one of the inputs."""
    matrix = weight[:, :, 0, 0]
    if matrix.shape[0] != matrix.shape[1]:
        return False
    ones = torch.ones(len(matrix), dtype=weight.dtype)
    binary = bool(((matrix == 0) | (matrix == 1)).all())
    return binary and torch.equal(matrix.sum(0), ones) and torch.equal(matrix.sum(1), ones)


def sizes_of(shapes: Sequence[tuple[int, ...]], first: int = 0, last: int | None = None) -> Sizes:
    """The result of a Shape."""
    return Sizes(tuple(np.array(shape[first:last], dtype=np.int64) for shape in shapes))
