"""Where the Triton backend puts activations that convolutions read in a row."""

from srfast.backends.gpu.layout import row_slots, side_by_side
from srfast.plan import Shape

SHAPES = {name: Shape(channels, 1) for name, channels in (("x", 64), ("a", 32), ("b", 32), ("c", 24), ("d", 16))}


def test_a_dense_block_is_one_row() -> None:
    slots = row_slots([("x",), ("x", "a"), ("x", "a", "b")], SHAPES)
    assert {name: slot.first for name, slot in slots.items()} == {"x": 0, "a": 64, "b": 96}
    assert {slot.width for slot in slots.values()} == {128}
    for row in (("x",), ("x", "a"), ("a", "b"), ("x", "a", "b")):
        assert side_by_side(row, slots, SHAPES)
    for row in (("a", "x"), ("x", "b"), ("x", "x"), ("a", "d")):
        assert not side_by_side(row, slots, SHAPES)


def test_what_does_not_fit_stays_apart() -> None:
    """Channels that are no whole blocks of 16, a row that crosses another, an activation twice."""
    assert row_slots([("x", "c")], SHAPES) == {}
    assert row_slots([("x", "x")], SHAPES) == {}
    slots = row_slots([("x", "a", "b"), ("d", "a")], SHAPES)
    assert set(slots) == {"x", "a", "b"}
    assert not side_by_side(("d", "a"), slots, SHAPES)
