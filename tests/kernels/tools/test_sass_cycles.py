"""Cycles of paths through machine code: a text as cuobjdump writes it, with the compiler's notes to the scheduler."""

from __future__ import annotations

import pytest

from srfast.kernels.tools.sass_cycles import decisions, matches, parse, walk, walk_past


def line(address: int, text: str, stall: int = 1, sets: int = 7, read: int = 7, awaits: int = 0) -> str:
    """Two lines: the instruction with its first word, and the second word, whose upper bits are the notes."""
    notes = stall | sets << 5 | read << 8 | awaits << 11
    return f"        /*{address:04x}*/   {text} ;   /* 0x0000000000000918 */\n   /* {notes << 41:#018x} */\n"


LOOP = "".join(
    [
        line(0x10, "HGMMA.64x64x16.F32 R24, R56, gdesc[UR16], R24, gsb0"),
        line(0x20, "WARPGROUP.DEPBAR.LE gsb0, 0x0", stall=4),
        line(0x30, "LDS.128 R4, [R2]", stall=2, sets=0),
        line(0x40, "LDG.E.128.CONSTANT R8, [R10.64]", stall=1, sets=1),
        line(0x50, "FADD R4, R4, R5", stall=5, awaits=0b01),
        line(0x60, "@P0 BRA 0x30", stall=5),
        line(0x70, "@!P1 BRA 0x90", stall=5),
        line(0x80, "STG.E.128 desc[UR4][R6.64], R8", stall=1, read=2, awaits=0b10),
        line(0x90, "FMUL R8, R8, R4", stall=3, awaits=0b100),
        line(0xA0, "@P2 BRA 0x10", stall=5),
        line(0xB0, "EXIT", stall=5),
    ]
)


def test_stalls_and_waits_add_up() -> None:
    """From the wait for the products to the next product; the loads' latencies count from where they start."""
    code = parse(LOOP)
    assert [i.address for i in code] == list(range(0x10, 0xC0, 0x10))
    found = walk(code, 0x20, "HGMMA")
    # 4 until LDS at 4; LDG at 6; FADD at 7 waits for LDS until 34; branches at 39 and 44; STG at 49 has LDG's result of 46
    # and has read it at 61, when FMUL goes on; the last branch at 64 takes 5 + 12.
    assert (found.cycles, found.instructions) == (81, 9)
    assert [(cycles, i.name) for cycles, i in found.waits] == [(27, "FADD"), (11, "FMUL")]
    assert found.branches == {0x60: (0, 1), 0x70: (0, 1), 0xA0: (1, 0)}
    assert found.counts["BRA"] == 3


def test_branches_by_decision() -> None:
    """An inner loop twice more, and a jump over the store."""
    code = parse(LOOP)
    found = walk(code, 0x20, "HGMMA", decisions("0x60*2,0x70"))
    assert found.branches == {0x60: (2, 1), 0x70: (1, 0), 0xA0: (1, 0)}
    assert (found.counts["LDS"], found.counts["STG"]) == (3, 0)


def test_paths_that_do_not_end() -> None:
    code = parse(LOOP)
    with pytest.raises(ValueError, match="leaves the function at 0xb0 before its end"):
        walk(code, 0x20, "HGMMA", {0xA0: 0})
    with pytest.raises(ValueError, match="does not end within"):
        walk(code, 0x20, "HGMMA", {0x60: -1})
    with pytest.raises(ValueError, match="no instruction is at 0x24"):
        walk(code, 0x24, "HGMMA")


def test_matches() -> None:
    assert matches(parse(LOOP), r"@P\d BRA") == [0x60, 0xA0]


def test_the_cheapest_path_past_instructions() -> None:
    """Once or three times round the inner loop, past the store or round it, back to the products or out."""
    code = parse(LOOP)
    once = walk_past(code, 0x20, ["STG.*"], "HGMMA.*")
    assert (once.cycles, once.branches) == (81, {0x60: (0, 1), 0x70: (0, 1), 0xA0: (1, 0)})
    # Straight on is cheaper than round the store, as a branch that is taken costs more than two instructions.
    thrice = walk_past(code, 0x20, ["LDS.128"] * 3, "EXIT")
    assert thrice.branches == {0x60: (2, 1), 0x70: (0, 1), 0xA0: (0, 1)}
    assert (thrice.counts["LDS"], thrice.counts["STG"], thrice.counts["EXIT"]) == (3, 1, 0)
    costly = parse(
        LOOP.replace(
            line(0x80, "STG.E.128 desc[UR4][R6.64], R8", stall=1, read=2, awaits=0b10),
            line(0x80, "STG.E.128 desc[UR4][R6.64], R8", stall=15),
        )
    )
    assert walk_past(costly, 0x20, [], "HGMMA.*").counts["STG"] == 0
    assert walk_past(costly, 0x20, ["STG.*"] * 2, "EXIT").branches[0xA0] == (1, 1)
    with pytest.raises(ValueError, match="no path from 0xa0 leads past LDSM to EXIT"):
        walk_past(code, 0xA0, ["LDSM"], "EXIT")
