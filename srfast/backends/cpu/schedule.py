"""When each row of each activation is computed on the CPU.

Layers advance in strips of rows. A chain of layers runs depth first: as soon as a layer has rows enough for another strip of
its output, the next layer follows, so that a wide activation is only ever a few rows high. Nothing is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from srfast.kernels.cpu import Step, caches


def share(part: float, most: int) -> int:
    """Take a part of the last-level cache: bytes, at most ``most``, in steps that similar processors have in common."""
    size = min(int(caches()[1] * part), most)
    step = 4 << 20 if size >= 4 << 20 else 1 << 18
    return max(size // step * step, 1 << 18)


# An activation up to this size stays in the last-level cache between two layers: 12 MB of 32 to 42 MB.
CACHED_BYTES = share(3 / 8, 48 << 20)
# Pixels of a strip: enough tiles for every thread to use a layer's weights for, once they are in its cache...
STRIP_PIXELS = 12288
# ... but of a chain with wide activations at most so many bytes, for the next layer to find them in the cache.
STRIP_BYTES = share(1 / 4, 32 << 20)
# Strips are multiples of the tiles.
STRIP_UNIT = 4


@dataclass(frozen=True)
class Layer:
    """One convolution or other node as the schedule sees it.

    Attributes:
        inputs, output, residual: numbers of activations; residual None for none.
        half: rows read above and below each row, or each ``shrink`` rows.
        step: rows of its tiles (before the shuffle).
        shuffle: rows written for each row.
        residual_factor: output rows for each row of the residual.
        shrink: rows of the inputs that make one row, as in a pool.
        whole: reads all rows before it writes the first.
    """

    inputs: tuple[int, ...]
    output: int
    residual: int | None
    half: int
    step: int
    shuffle: int
    residual_factor: int = 1
    shrink: int = 1
    whole: bool = False

    @property
    def input(self) -> int:
        """The first of the inputs; all have the same size."""
        return self.inputs[0]


@dataclass(frozen=True)
class Chain:
    """Layers ``start`` .. ``stop`` that advance together by ``rows`` rows of the first one's input.

    A chain that ``follows`` uses up what the chain before it gave before that one goes on.
    """

    start: int
    stop: int
    rows: int
    follows: bool


def chains(layers: list[Layer], sizes: list[int], heights: list[int], widths: list[int]) -> list[Chain]:
    """Which layers run depth first: those between which an activation would not stay in the cache.

    Args:
        layers: in order.
        sizes: bytes of every activation.
        heights, widths: pixels of every activation.
    """
    starts: list[tuple[int, bool]] = []
    for i, layer in enumerate(layers):
        # A layer that only prepares something for the next one stands between two links without breaking the chain.
        linked = _prepares(layers, i, sizes) or _links(
            layers, i - 2 if _prepares(layers, i - 1, sizes) else i - 1, i, sizes
        )
        # The first layer that widens begins a chain too: its strips must be low, and those before it then need not be.
        if not linked or (
            _widens(layer, sizes) and not any(_widens(before, sizes) for before in layers[starts[-1][0] : i])
        ):
            starts.append((i, linked))
    result = []
    for (start, follows), stop in zip(starts, [*(i for i, _ in starts[1:]), len(layers)], strict=True):
        first = layers[start].input
        rows = heights[first]
        if stop - start > 1 or follows or (stop < len(layers) and sizes[layers[start].output] > CACHED_BYTES):
            rows = -(-STRIP_PIXELS // widths[first])
            widest = max(sizes[layer.output] for layer in layers[start:stop])
            rows = min(rows, STRIP_BYTES * heights[first] // widest)
        result.append(Chain(start, stop, max(1, -(-rows // STRIP_UNIT)) * STRIP_UNIT, follows))
    return result


def _links(layers: list[Layer], before: int, i: int, sizes: list[int]) -> bool:
    """Whether layer ``i`` reads strips of what layer ``before`` writes."""
    layer = layers[i]
    return (
        before >= 0 and layers[before].output in layer.inputs and sizes[layer.input] > CACHED_BYTES and not layer.whole
    )


def _prepares(layers: list[Layer], i: int, sizes: list[int]) -> bool:
    """Whether layer ``i`` only makes something else, such as an enlarged image, for the layer that follows ``i - 1``."""
    if not 0 < i < len(layers) - 1 or layers[i - 1].output in layers[i].inputs or layers[i].whole:
        return False
    following = layers[i + 1]
    return layers[i].output in (*following.inputs, following.residual) and _links(layers, i - 1, i + 1, sizes)


def _widens(layer: Layer, sizes: list[int]) -> bool:
    return sizes[layer.output] > 2 * sizes[layer.input] > 2 * CACHED_BYTES


def schedule(layers: list[Layer], heights: list[int], inputs: list[int], order: list[Chain]) -> list[Step]:
    """Orders the steps.

    Args:
        layers: each activation is written once, before it is read.
        heights: rows of every activation.
        inputs: activations that are loaded, as their rows are read.
        order: as ``chains`` gives it.

    Raises:
        ValueError: a layer waits for rows that nothing writes.
    """
    simulation = _Simulation(layers, heights, inputs)
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and order[end].follows:
            end += 1
        while not all(simulation.finished(i) for i in range(order[begin].start, order[end - 1].stop)):
            before = len(simulation.steps)
            # One strip of the first, which those that follow use up: about a strip lies between them, and not a whole
            # image.
            simulation.advance_chain(order[begin])
            for chain in order[begin + 1 : end]:
                while simulation.advance_chain(chain):
                    pass
            if len(simulation.steps) == before:
                raise ValueError(
                    f"layers {order[begin].start} to {order[end - 1].stop - 1} wait for rows that nothing writes"
                )
        begin = end
    return simulation.steps


class _Simulation:
    """The state of a simulated execution."""

    def __init__(self, layers: list[Layer], heights: list[int], inputs: list[int]) -> None:
        self.layers, self.heights, self.inputs = layers, heights, inputs
        self.done = [0] * len(layers)
        self.written = [0] * len(heights)
        self.steps: list[Step] = []

    def load(self, layer: Layer, target: int) -> None:
        """Loads the rows of inputs that the layer reads up to row ``target``."""
        for index, activation in enumerate(self.inputs):
            last = 0
            if activation in layer.inputs:
                last = self.heights[activation] if layer.whole else target * layer.shrink + layer.half
            if activation == layer.residual:
                last = max(last, -(-target * layer.shuffle // layer.residual_factor))
            first, last = self.written[activation], min(last, self.heights[activation])
            if last > first:
                self.written[activation] = last
                self.steps.append(Step(-1 - index, first, last))

    def finished(self, index: int) -> bool:
        """Whether layer ``index`` is done."""
        return self.done[index] == self.rows(self.layers[index])

    def rows(self, layer: Layer) -> int:
        """Rows that the layer's steps count, of the whole image."""
        return self.heights[layer.input] // layer.shrink

    def advance_chain(self, chain: Chain) -> bool:
        """Runs the chain's layers by at most one strip, each as far as the one before allows; False if nothing could run."""
        before = len(self.steps)
        height = self.heights[self.layers[chain.start].input]
        for i in range(chain.start, chain.stop):
            # Also at the end of the image, lest activations get as many rows as the layers lag behind each other.
            layer = self.layers[i]
            # In whole tiles, and not less than the layers before, or it would fall behind them more and more.
            tiles = -(-chain.rows * self.rows(layer) // (height * layer.step))
            self.advance(i, self.done[i] + tiles * layer.step)
        return len(self.steps) > before

    def advance(self, index: int, target: int) -> None:
        """Runs layer ``index`` up to row ``target``, or as far as its inputs go."""
        layer = self.layers[index]
        rows = self.rows(layer)
        last = min(target, rows)
        # Rows of the input are loaded as late as this, so that they are in the cache when they are read.
        self.load(layer, last)
        for activation in layer.inputs:
            if self.written[activation] < self.heights[activation]:
                last = 0 if layer.whole else min(last, (self.written[activation] - layer.half) // layer.shrink)
        if layer.residual is not None and self.written[layer.residual] < self.heights[layer.residual]:
            last = min(last, self.written[layer.residual] * layer.residual_factor // layer.shuffle)
        # Only whole tiles, unless the image ends: a tile that is computed in two parts would be computed twice.
        if last < rows:
            last = last // layer.step * layer.step
        if last <= self.done[index]:
            return
        self.written[layer.output] = last * layer.shuffle
        self.steps.append(Step(index, self.done[index], last))
        self.done[index] = last
