"""Faults to plant in the ends of Hopper's rows, and the checks that find them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from srfast.kernels.cuda.hopper import hopper_launch
from srfast.kernels.cuda.pack import Variant
from tests.helpers.cuda.endings import check_ending
from tests.helpers.cuda.planting import Fault
from tests.helpers.cuda.problems import HALF

HELD, SHIFTED = "held", "shifted"  # rows of 64 pixels in two buffers in turn; of 120 in one


@dataclass(frozen=True)
class Rows:
    """The check of an ending in two strips, the last of which is cut."""

    form: str = HELD
    prelu: bool = False
    residual: bool = False
    shuffle: int = 1

    def __call__(self) -> None:
        launch = partial(hopper_launch, form=f"wgmma_{self.form}", blocks=self.shuffle**2)
        width = 67 if self.form == HELD else 123
        size = (5, width) if self.shuffle == 1 else (3, width)
        check_ending(Variant(64, 64, 3), size, 1, HALF, self.prelu, self.residual, self.shuffle, launch)

    @property
    def run(self) -> str:
        """The instance of the kernel that it checks."""
        ending = {(0, 0): "plain", (1, 0): "prelu", (0, 1): "residual", (1, 1): "prelu_residual"}
        return f"run_planted_row<srfast::Window::{self.form}, {{space}}::Ending::{ending[self.prelu, self.residual]}>"


def fault(kind: str, old: str, new: str, check: Rows) -> Fault:
    return Fault(f"row: {kind}", old, new, check, check.run)


PLAIN, PRELU, RESIDUAL, SHUFFLED = Rows(), Rows(prelu=True), Rows(residual=True), Rows(shuffle=2)
LONG, LONG_RESIDUAL = Rows(SHIFTED), Rows(SHIFTED, residual=True)
SHUFFLED_RESIDUAL = Rows(residual=True, shuffle=2)
WAIT = "        if (RESIDUAL) cp_async_wait<0>();\n        // Everybody's"
BEFORE = "if (RESIDUAL || BUFFERS == 1) sync_group(1 + group_, 128);"
MADE = "        sync_group(1 + group_, 128);\n    }\n"  # the end of the function that makes a row
PLACES = "swizzled<8>(lane / 16 * 8 + lane % 8, t / 32 * 2 + lane / 8 % 2)"
SUMS = "words[q] = ended(acc[k * 8 + q * 2], acc[k * 8 + q * 2 + 1], q % 2, r[k][q]);"
LAST = "words[q] = ended(acc[k * 8 + q * 2], acc[k * 8 + q * 2 + 1], q, last[q]);"
FAULTS = (
    fault("bias of the other eight channels", "e.bias + channel + h * 8", "e.bias + channel + 8 - h * 8", PLAIN),
    fault("bias of the first warp", "block_o * 64 + t / 32 * 16 + lane / 4", "block_o * 64 + lane / 4", PLAIN),
    fault("bias of the first block", "channel = block_o * 64 + t / 32 * 16", "channel = t / 32 * 16", SHUFFLED),
    fault("slope of the first eight channels", "e.slope + channel + h * 8", "e.slope + channel", PRELU),
    fault(
        "no residual",
        "rounded_sum(rounded_product(v[i], gain_), i ? r.hi : r.lo)",
        "rounded_product(v[i], gain_)",
        RESIDUAL,
    ),
    fault("no gain", "rounded_sum(rounded_product(v[i], gain_),", "rounded_sum(v[i],", RESIDUAL),
    fault("residual's halves exchanged", "gain_), i ? r.hi : r.lo", "gain_), i ? r.lo : r.hi", RESIDUAL),
    fault(
        "residual of the result's image",
        "residual_ = at(e_.residual, image, y, x0)",
        "residual_ = at(e_.out, image, y, x0)",
        RESIDUAL,
    ),
    fault(
        "fragments not swizzled",
        PLACES,
        "(lane / 16 * 8 + lane % 8) * 128 + swizzled<8>(0, t / 32 * 2 + lane / 8 % 2)",
        PLAIN,
    ),
    fault(
        "matrices in another order", PLACES, "swizzled<8>(lane / 8 % 2 * 8 + lane % 8, t / 32 * 2 + lane / 16)", PLAIN
    ),
    fault("chunks not swizzled", "chunk_ = swizzled<8>(t / 8, t % 8)", "chunk_ = t / 8 * 128 + t % 8 * 16", PLAIN),
    fault("sums exchanged", SUMS, SUMS.replace("* 2]", "* 2 + 1]", 1), PLAIN),
    fault("bias of a pixel's half", SUMS, SUMS.replace("q % 2", "q / 2"), PLAIN),
    fault("next residual too early", "fragments + (k + 1) * 2048);", "fragments + k * 2048);", RESIDUAL),
    fault("residual read before it is there", WAIT, WAIT.replace("if (RESIDUAL) cp_async_wait<0>();", ""), RESIDUAL),
    fault("residual read without a barrier", BEFORE, BEFORE.replace("RESIDUAL || ", ""), RESIDUAL),
    fault("the one buffer written while it is read", BEFORE, BEFORE.replace(" || BUFFERS == 1", ""), LONG),
    fault("stored without a barrier", MADE, "    }\n", PLAIN),
    fault("the same buffer again", "if (BUFFERS == 2) buffers_ ^= ROW_BYTES;", "", PLAIN),
    fault(
        "last pixels without their residual",
        "if (RESIDUAL) ldmatrix_x2_transposed",
        "if (false) ldmatrix_x2_transposed",
        LONG_RESIDUAL,
    ),
    fault("last pixels' halves exchanged", LAST, LAST.replace("q, last", "1 - q, last"), LONG),
    fault("residual copied beside its place", "cp_async<16>(to + j * 2048,", "cp_async<16>(to + j * 1024,", RESIDUAL),
    fault("a column too many", "left_ = inside - thread() % 128 / 8", "left_ = inside + 1 - thread() % 128 / 8", PLAIN),
    fault("shuffled to the wrong row", "y_ = phase / e.shuffle;", "y_ = 0;", SHUFFLED),
    fault("shuffled to the wrong column", "x_ = phase % e.shuffle + t / 8", "x_ = t / 8", SHUFFLED),
    fault(
        "rows without the shuffle",
        "2LL * rows * e.shuffle * e.out.row_stride",
        "2LL * rows * e.out.row_stride",
        SHUFFLED,
    ),
    fault("columns without the shuffle", "32 * e.shuffle * e.out.pixel_stride", "32 * e.out.pixel_stride", SHUFFLED),
    fault(
        "residual's rows without the shuffle",
        "2LL * rows * e.shuffle * e.residual.row_stride",
        "2LL * rows * e.residual.row_stride",
        SHUFFLED_RESIDUAL,
    ),
    fault(
        "residual's columns without the shuffle",
        "32 * e.shuffle * e.residual.pixel_stride",
        "32 * e.residual.pixel_stride",
        SHUFFLED_RESIDUAL,
    ),
    fault("the first group's rows", "end.begin(s.image, s.y0 + group, s.x0,", "end.begin(s.image, s.y0, s.x0,", PLAIN),
)
