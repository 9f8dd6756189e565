"""When each row of each activation is computed on the CPU, and where it lies in memory.

Layers advance in strips of rows. A chain of layers runs depth first: as soon as a layer has rows enough for another strip of
its output, the next layer follows, so that a wide activation is only ever a few rows high. Nothing is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass

# An activation up to this size stays in the last-level cache between two layers.
CACHED_BYTES = 12 << 20
# Pixels of a strip: enough tiles for every thread, few enough to be found in the cache by the next layer.
STRIP_PIXELS = 8192


@dataclass(frozen=True)
class Layer:
    """One convolution as the schedule sees it.

    Attributes:
        input, output, residual: numbers of activations; residual None for none.
        half: rows read above and below each row.
        step: rows of its tiles (before the shuffle).
        shuffle: rows written for each row.
        residual_factor: output rows for each row of the residual.
    """

    input: int
    output: int
    residual: int | None
    half: int
    step: int
    shuffle: int
    residual_factor: int = 1


@dataclass(frozen=True)
class Step:
    """Rows ``first`` .. ``last`` of a layer (before the shuffle); layer -1 - i loads input i."""

    layer: int
    first: int
    last: int


@dataclass(frozen=True)
class Schedule:
    """Steps in order, and for each activation the rows kept and the steps (first, last) in which it is used."""

    steps: tuple[Step, ...]
    rings: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def strips(layers: list[Layer], sizes: list[int], heights: list[int], widths: list[int]) -> list[int]:
    """Rows by which the chain that begins at each layer advances; 0 where the layer goes on with the chain before it.

    Args:
        layers: in order.
        sizes: bytes of every activation.
        heights, widths: pixels of every activation.
    """
    result = []
    for i, layer in enumerate(layers):
        follows = i > 0 and layers[i - 1].output == layer.input and sizes[layer.input] > CACHED_BYTES
        if follows:
            result.append(0)
            continue
        rows = -(-STRIP_PIXELS // widths[layer.input])
        leads = i + 1 < len(layers) and layers[i + 1].input == layer.output and sizes[layer.output] > CACHED_BYTES
        result.append(-(-rows // 4) * 4 if leads else heights[layer.input])
    return result


def schedule(layers: list[Layer], heights: list[int], inputs: list[int], chains: list[int]) -> Schedule:
    """Orders the steps and finds how many rows of each activation must be kept.

    Args:
        layers: each activation is written once, before it is read.
        heights: rows of every activation.
        inputs: activations that are loaded, whole, before the first layer.
        chains: as ``strips`` gives them.
    """
    run = _Run(layers, heights)
    for i, activation in enumerate(inputs):
        run.load(i, activation)
    starts = [i for i, rows in enumerate(chains) if rows]
    for start, end in zip(starts, [*starts[1:], len(layers)], strict=True):
        while run.done[end - 1] < heights[layers[end - 1].input]:
            run.advance(start, run.done[start] + chains[start])
            for i in range(start + 1, end):
                run.advance(i, heights[layers[i].input])
    return run.result()


class _Run:
    """The state of a simulated execution."""

    def __init__(self, layers: list[Layer], heights: list[int]) -> None:
        self.layers, self.heights = layers, heights
        self.done = [0] * len(layers)
        self.written = [0] * len(heights)
        self.rings = [1] * len(heights)
        self.spans: list[tuple[int, int]] = [(0, 0)] * len(heights)
        self.steps: list[Step] = []

    def load(self, index: int, activation: int) -> None:
        self._write(activation, self.heights[activation])
        self.steps.append(Step(-1 - index, 0, self.heights[activation]))

    def advance(self, index: int, target: int) -> None:
        """Runs layer ``index`` up to row ``target``, or as far as its inputs go."""
        layer = self.layers[index]
        rows = self.heights[layer.input]
        last = min(target, rows)
        if self.written[layer.input] < rows:
            last = min(last, self.written[layer.input] - layer.half)
        if layer.residual is not None and self.written[layer.residual] < self.heights[layer.residual]:
            last = min(last, self.written[layer.residual] * layer.residual_factor // layer.shuffle)
        if last < rows:
            last = last // layer.step * layer.step
        if last <= self.done[index]:
            return
        for activation in (layer.input, layer.residual):
            if activation is not None:
                self.spans[activation] = (self.spans[activation][0], len(self.steps))
        self._write(layer.output, last * layer.shuffle)
        self.steps.append(Step(index, self.done[index], last))
        self.done[index] = last

    def _write(self, activation: int, last: int) -> None:
        if self.written[activation] == 0:
            self.spans[activation] = (len(self.steps), len(self.steps))
        self.spans[activation] = (self.spans[activation][0], len(self.steps))
        self.written[activation] = last
        self.rings[activation] = max(self.rings[activation], last - self._needed(activation))

    def _needed(self, activation: int) -> int:
        """The first row that a reader still has to read."""
        first = self.written[activation]
        for layer, done in zip(self.layers, self.done, strict=True):
            if layer.input == activation and done < self.heights[activation]:
                first = min(first, max(0, done - layer.half))
            if layer.residual == activation and done < self.heights[layer.input]:
                first = min(first, done * layer.shuffle // layer.residual_factor)
        return first

    def result(self) -> Schedule:
        return Schedule(tuple(self.steps), tuple(self.rings), tuple(self.spans))


def place(sizes: list[int], spans: tuple[tuple[int, int], ...], unit: int = 16) -> tuple[list[int], int]:
    """Offsets of memory blocks that share an arena where they are not used at the same time.

    Args:
        sizes: of every block; 0 for none.
        spans: first and last step that uses the block.
        unit: offsets are multiples of it.

    Returns:
        The offsets and the size of the arena.
    """
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: spans[i]):
        if not sizes[i]:
            continue
        live = sorted((offsets[j], sizes[j]) for j in placed if spans[j][1] >= spans[i][0] and spans[j][0] <= spans[i][1])
        at = 0
        for offset, size in live:
            if at + sizes[i] <= offset:
                break
            at = max(at, -(-(offset + size) // unit) * unit)
        offsets[i] = at
        placed.append(i)
    return offsets, max((offsets[i] + sizes[i] for i in placed), default=0)
