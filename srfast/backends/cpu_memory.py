"""Where the activations of a schedule lie in memory."""

from __future__ import annotations

from srfast.backends.cpu_schedule import Layer, Schedule, first_row


def overwritten(
    layers: list[Layer],
    plan: Schedule,
    heights: list[int],
    like: list[tuple[int, ...]],
    rings: list[int],
    spans: list[tuple[int, int]],
) -> list[int]:
    """Finds layers whose results may overwrite the residual that they are added to: less memory, and less of it fetched.

    Args:
        layers, plan, heights: as for ``schedule``.
        like: of every activation; only equal ones share memory.
        rings, spans: of every activation; those that share get rings and spans for all of them, in place.

    Returns:
        For every activation the first one in whose memory it lies.
    """
    last = {layer.residual: i for i, layer in enumerate(layers)}
    fits = {
        i
        for i, layer in enumerate(layers)
        if layer.residual is not None
        and last[layer.residual] == i
        and layer.residual not in layer.inputs
        and layer.residual_factor == 1
        and like[layer.residual] == like[layer.output]
    }
    fits -= _too_early(layers, plan, heights, fits)
    owners = list(range(len(heights)))
    for i in sorted(fits):
        residual, output = layers[i].residual, layers[i].output
        assert residual is not None
        owners[output] = owners[residual]
    for owner in set(owners):
        together = [a for a, o in enumerate(owners) if o == owner]
        # What is alive of one follows what is alive of the one before.
        ring = min(heights[owner], sum(rings[a] for a in together))
        span = (min(spans[a][0] for a in together), max(spans[a][1] for a in together))
        for a in together:
            rings[a], spans[a] = ring, span
    return owners


def _too_early(layers: list[Layer], plan: Schedule, heights: list[int], candidates: set[int]) -> set[int]:
    """Those of the candidates that would overwrite rows of their residuals which a layer has yet to read."""
    done = [0] * len(layers)
    found = set()
    for step in plan.steps:
        if step.layer < 0:
            continue
        done[step.layer] = step.last
        if step.layer not in candidates:
            continue
        layer = layers[step.layer]
        assert layer.residual is not None
        for i, reader in enumerate(layers):
            reads = layer.residual in (*reader.inputs, reader.residual)
            if (
                i != step.layer
                and reads
                and first_row(reader, layer.residual, done[i], heights) < step.last * layer.shuffle
            ):
                found.add(step.layer)
    return found


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
        live = sorted(
            (offsets[j], sizes[j]) for j in placed if spans[j][1] >= spans[i][0] and spans[j][0] <= spans[i][1]
        )
        at = 0
        for offset, size in live:
            if at + sizes[i] <= offset:
                break
            at = max(at, -(-(offset + size) // unit) * unit)
        offsets[i] = at
        placed.append(i)
    return offsets, max((offsets[i] + sizes[i] for i in placed), default=0)
