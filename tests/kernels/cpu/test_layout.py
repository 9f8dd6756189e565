"""Where rows lie in memory: every row only from the step that writes it to the last that reads it, for any order of steps."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from srfast.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))

HEIGHT, WIDTH, CHANNELS = 23, 9, 16
# Input 0; layer i writes activation i + 1: (inputs, residual). The last one is the output, in the caller's memory.
NETWORKS = {
    "chain": [(0, None), (1, None), (2, None), (3, None)],
    "residual": [(0, None), (1, None), (2, 1), (3, None)],
    "residual read later": [(0, None), (1, None), (2, 1), (3, 1), (4, None)],
    "residual read by itself": [(0, None), (1, 1), (2, None)],
    "input added": [(0, None), (1, 0), (2, 0), (3, None)],
    "residual of the output": [(0, None), (1, None), (2, 1)],
}
Step = tuple[int, int, int]


def _network(layers: list[tuple[int, int | None]], outputs: tuple[int, ...] = ()) -> cpu.Network:
    generator = torch.Generator().manual_seed(0)
    network = cpu.Network(None)
    for i in range(len(layers) + 1):
        network.activation(CHANNELS, input=i == 0, output=i in (outputs or [len(layers)]))
    for i, (source, residual) in enumerate(layers):
        weight = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator) / 12
        network.conv(source, i + 1, weight, torch.zeros(CHANNELS), residual=residual)
    return network


def _random_steps(layers: list[tuple[int, int | None]], random_: random.Random) -> list[Step]:
    """Any layer that can go on does, by any number of rows, until all are done."""
    written = [0] * (len(layers) + 1)
    steps = []
    while min(written) < HEIGHT:
        layer = random_.randrange(-1, len(layers))
        if layer < 0:
            limit = HEIGHT
        else:
            source, residual = layers[layer]
            limit = written[source] - (written[source] < HEIGHT)
            limit = min(limit, HEIGHT if residual is None else written[residual])
        first = written[layer + 1]
        if limit > first:
            last = random_.randint(first + 1, limit)
            steps.append((layer, first, last))
            written[layer + 1] = last
    return steps


def _rows_needed(layers: list[tuple[int, int | None]], steps: list[Step]) -> int:
    """Rows in memory at once: counted row by row, over the whole life of each."""
    life: dict[tuple[int, int], list[int]] = {}
    for t, (layer, first, last) in enumerate(steps):
        for y in range(first, last):
            life[layer + 1, y] = [t, t]
        if layer < 0:
            continue
        source, residual = layers[layer]
        for y in range(max(0, first - 1), min(HEIGHT, last + 1)):
            life[source, y][1] = t
        for y in range(first, last):
            if residual is not None:
                life[residual, y][1] = t
    rows = [0] * len(steps)
    for (activation, y), (birth, death) in life.items():
        if activation == len(layers):
            continue
        residual = layers[activation - 1][1] if activation else None
        source = layers[activation - 1][0] if activation else None
        # A sum takes the memory of what it is added to, which nothing else needs any longer.
        takes_over = residual is not None and residual != source and life[residual, y][1] == birth
        for t in range(birth + takes_over, death + 1):
            rows[t] += 1
    return max(rows)


def _run(network: cpu.Network, layers: int, steps: list[Step], x: Tensor) -> Tensor:
    network.layout(HEIGHT, WIDTH, scales=[1] * (layers + 1), steps=steps)
    out = torch.full((HEIGHT, WIDTH, CHANNELS), float("nan"))
    network.run([x], [out], 2)
    return out


@pytest.mark.parametrize("name", NETWORKS)
def test_any_order_gives_the_same_bits_in_the_least_memory(name: str) -> None:
    layers, random_ = NETWORKS[name], random.Random(0)
    network, x = _network(layers), torch.randn(HEIGHT, WIDTH, CHANNELS, generator=torch.Generator().manual_seed(1))
    whole = [(i, 0, HEIGHT) for i in range(-1, len(layers))]
    expected = _run(network, len(layers), whole, x)
    needed = set()
    for _ in range(40):
        steps = _random_steps(layers, random_)
        rows = _rows_needed(layers, steps)
        # All rows are equally long here: nothing is lost to gaps.
        found = network.working_bytes(HEIGHT, WIDTH, scales=[1] * (len(layers) + 1), steps=steps)
        assert found == rows * network.row_floats(1, WIDTH) * 4
        assert torch.equal(_run(network, len(layers), steps, x), expected)
        needed.add(rows)
    assert len(needed) > 5
    assert expected.isfinite().all()


@pytest.mark.parametrize("threads", [1, 3])
def test_channels_are_turned_round_in_any_order(threads: int) -> None:
    """Of an output in the caller's memory, step by step, and of one that another layer reads, at the end."""
    layers, random_ = NETWORKS["chain"], random.Random(0)
    network = _network(layers, outputs=(3, 4))
    x = torch.randn(HEIGHT, WIDTH, CHANNELS, generator=torch.Generator().manual_seed(1))
    expected, turned = (torch.full((2, HEIGHT, WIDTH, CHANNELS), float("nan")) for _ in range(2))
    for _ in range(10):
        network.layout(HEIGHT, WIDTH, scales=[1] * 5, steps=_random_steps(layers, random_))
        network.run([x], list(expected), threads)
        network.run([x.flip(2)], list(turned), threads, reverse=True)
        assert torch.equal(turned.flip(3), expected)
    assert expected.isfinite().all()


def test_gaps_are_used_by_rows_of_another_length() -> None:
    """Two short rows lie where a long one was; what is left of a gap stays one."""
    network = cpu.Network(None)
    widths = [64, 32, 32, 32, 16]
    for i, channels in enumerate(widths):
        network.activation(channels, input=i == 0, output=i == 4)
    for i in range(4):
        network.conv(i, i + 1, torch.zeros(widths[i + 1], widths[i], 1, 1), torch.zeros(widths[i + 1]))
    steps = [(i, 0, HEIGHT) for i in range(-1, 4)]
    floats = [network.row_floats(i, WIDTH) * HEIGHT for i in range(4)]
    found = network.working_bytes(HEIGHT, WIDTH, scales=[1] * 5, steps=steps)
    assert found == 4 * (floats[0] + floats[1])
