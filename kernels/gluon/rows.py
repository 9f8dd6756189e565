"""How long the strips of the Gluon convolution are: the length whose programs come in full waves.

Two programs share a multiprocessor, so a wave is two programs for each. A program costs its rows and about two more, for the
rows around the strip and the weights that it loads first.
"""

from __future__ import annotations

# Of a full wave's time, where every multiprocessor has one program at most. Predicted from the machine code: two programs keep
# the matrix units busy for 90% of the time, one alone for 54%, so a row of each takes 2 / 0.90 or 1 / 0.54 of the products' time.
ALONE = 5 / 6
AROUND = 2
SHORTEST, LONGEST = 2, 128


def waves(programs: int, multiprocessors: int) -> float:
    """Counts the full waves that take as long as so many programs.

    Args:
        programs: of equal length.
        multiprocessors: of the GPU, each with two programs at a time.

    Examples:
        >>> waves(264, 132), waves(265, 132) > 1.8, waves(397, 132)
        (1, True, 2)
    """
    full, rest = divmod(programs, 2 * multiprocessors)
    return full + (0 if rest == 0 else ALONE if rest <= multiprocessors else 1)


def strip_rows(images: int, height: int, strips: int, multiprocessors: int) -> int:
    """Chooses the rows of a strip: of the least cost the longest, which reads the fewest rows twice.

    Args:
        images, height: of the activation, in pixels.
        strips: side by side in an image.
        multiprocessors: of the GPU.

    Examples:
        >>> strip_rows(1, 270, 8, 132)  # 30 x 8 programs: one wave of 264
        9
    """

    def cost(rows: int) -> float:
        return waves(images * strips * -(-height // rows), multiprocessors) * (rows + AROUND)

    return min(range(SHORTEST, LONGEST + 1), key=lambda rows: (cost(rows), -rows))
