"""Where the pixels of a module's activations lie on the activations of the plan, which all cover the whole image.

A convolution without padding gives fewer pixels than it reads. The plan pads it with zeros instead and computes a few more,
which nothing may use: a place says how many pixels at each border these are, and so what has to be cropped in the end. All
activations of one scale then have one size, and a crop that fits a skip connection costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from srfast.errors import UnsupportedModelError
from srfast.plan import Conv, Depthwise, GroupNorm, InstanceNorm, Node, Pool, Resize, Shuffle, SpatialGate, Unshuffle


@dataclass(frozen=True)
class Place:
    """In pixels of the activation, rows and columns alike.

    Attributes:
        before, after: of the plan's activation that the module's does not have, at the top and left, and at the others.
        shift: how far its pixels are to the right of where those of the image are that they stand for; below a convolution
            of stride 2 that began at an odd pixel it is a half.
    """

    before: int = 0
    after: int = 0
    shift: Fraction = Fraction(0)

    @property
    def whole(self) -> bool:
        """The module's activation is the plan's."""
        return self == WHOLE


WHOLE = Place()


def place_of(node: Node, places: Mapping[str, Place]) -> Place:
    """Where the result of a node lies that treats all pixels alike.

    Raises:
        UnsupportedModelError: it reads pixels that the module does not have, or at different places.
    """
    source, kind = places[node.input], type(node).__name__.lower()
    if any(places[name] != source for name in node.inputs):
        raise UnsupportedModelError(f"no plan node covers {kind} of images whose pixels lie apart (at {node.output})")
    if source.whole:
        return source
    if isinstance(node, Shuffle) or (isinstance(node, Resize) and node.mode == "nearest"):
        factor = int(node.factor)
        return Place(source.before * factor, source.after * factor, source.shift * factor)
    if isinstance(node, (Unshuffle, Pool)) and source.before % node.factor == 0:
        return Place(source.before // node.factor, -(-source.after // node.factor), source.shift / node.factor)
    pointwise = not isinstance(node, (Unshuffle, Pool, Resize, SpatialGate, InstanceNorm, GroupNorm))
    if pointwise and not (isinstance(node, (Conv, Depthwise)) and node.kernel > 1):
        return source
    raise UnsupportedModelError(
        f"no plan node covers {kind} after convolutions without padding (at {node.output}): it looks beyond their border"
    )


def convolved(place: Place, kernel: int, stride: int, padding: int) -> tuple[Place, int]:
    """Where the result of a convolution lies, and the padding with which the plan's has its pixels there.

    Raises:
        ValueError: it pads with zeros what is smaller than the image, or makes images larger.
    """
    if padding and not place.whole:
        raise ValueError("zeros around an image that a convolution without padding made smaller")
    if stride == 1:
        half = kernel // 2
        # The plan pads by half of the kernel. Of what it then computes at a border, half less the module's own padding is
        # none of the module's; an even kernel has one tap more at the far side.
        result = Place(place.before + half - padding, place.after + half - padding - (kernel + 1) % 2, place.shift)
        own = half
    else:
        first = place.before // stride
        last = -first - 1 - (2 * padding - kernel - place.before - place.after) // stride
        result = Place(first, last, (place.shift + place.before % stride) / stride)
        # Whole strides from the image's corner: what they leave over is made up for in the padding of the plan's
        # convolution.
        own = stride * first - place.before + padding
    return _checked(result), own


def transposed(place: Place, kernel: int, stride: int, padding: int, extra: int) -> tuple[Place, int]:
    """The same for a transposed convolution; ``extra`` is its output padding.

    Raises:
        ValueError: its result depends on pixels that the module does not have, or is larger than the enlarged image.
    """
    if not place.whole and padding < kernel - stride:
        raise ValueError("a transposed convolution reaches beyond what a convolution without padding made smaller")
    whole = place.whole and kernel + extra - 2 * padding == stride
    shift = place.shift * stride
    # Whole pixels of the shift go into the kernel; only what is left of it stays with the place.
    moved = int(shift)
    own = (padding if whole else (kernel - stride) // 2) - moved
    first = stride * place.before + padding - own
    last = stride * (place.before + place.after + 1) - kernel + 2 * padding - extra - first
    return _checked(Place(first, last, shift - moved)), own


def cropped(place: Place, before: int, after: int) -> Place:
    """Less so many pixels at each border."""
    return Place(place.before + before, place.after + after, place.shift)


def _checked(place: Place) -> Place:
    if min(place.before, place.after) < 0:
        raise ValueError("an image larger than the one it was made from")
    return place
