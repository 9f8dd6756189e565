"""Faults to plant in the network's tail on Hopper, mostly in what orders its two warpgroups, and the checks that find them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.tail import CudaTail, tail_launch
from tests.helpers.cuda.planting import Fault
from tests.helpers.cuda.problems import HALF
from tests.helpers.cuda.tails import Tail


@cache
def problem(kernel: int) -> tuple[Tail, CudaTail, Tensor]:
    """Two strips, three passes, 128 channels between the two convolutions; and the result."""
    tail = Tail((6, 57), 128, kernel, 12, 2, HALF, "prelu")
    return tail, tail.packed()[2], tail.exact()


@cache
def check(kernel: int) -> Callable[[], None]:
    """The check of a second convolution of 5x5, which ends in known sizes, or of 3x3."""

    def compare() -> None:
        tail, fused, exact = problem(kernel)
        out = Canvas.allocate(*tail.shape)
        tail_launch(tail.x, fused, out, form="tail_wgmma", rows=8)()
        assert float((out.nchw().double() - exact).abs().max()) <= torch.finfo(HALF).eps * float(exact.abs().max())

    return compare


def fault(kind: str, old: str, new: str, kernel: int = 5) -> Fault:
    few = "true" if kernel == 5 else "false"
    run = f"launch_tail_hopper<srfast::Half, {few}>"
    return Fault(f"tail's rows: {kind}", old, new, check(kernel), run, "tail_rows")


AWAIT = "made_.await_full(turn_ * 2);"
FEW = f"            if (group_ == 1) {AWAIT}\n            begin_row(1);"
LAST_FILL = "            fill(1);\n            steps_.end_previous();\n        }\n"
PUBLISH = "        made_.publish(turn_ * 2 + group_);\n"
ARRIVE = "        if (thread() % 32 == 0) mbarrier_arrive(barrier);"
ENDS = "end_pass(pass - 1, tap + 1 - R::STEPS)"
INSIDE = "(x >= 0 && x < width ? 0xffffu : 0) | (x >= -1 && x + 1 < width ? 0xffff0000u : 0)"
ROW_INSIDE = "y >= 0 && y < height ? ~0u : 0"
FAULTS = (
    fault("group 0's are not awaited", FEW, "            begin_row(1);"),
    fault("group 0's are awaited too late", FEW, f"            begin_row(1);\n            if (group_ == 1) {AWAIT}"),
    fault("group 0's are not awaited for 3x3", f"if (EARLY == 1 && group_ == 1) {AWAIT}", "", 3),
    fault("the own ones are not awaited", "made_.await_full(turn_ * 2 + group_);", ""),
    fault("the own ones are not awaited for 3x3", "made_.await_full(turn_ * 2 + group_);", "", 3),
    fault("told before they are there", LAST_FILL + PUBLISH, PUBLISH + LAST_FILL),
    fault("told without a proxy fence", f"        copies_see_writes();\n        sync_warp();\n{ARRIVE}", ARRIVE),
    fault("an early row of taps too many", "EARLY = FEW ? 3 : 1", "EARLY = FEW ? 3 : 2", 3),
    fault("the second one is the first one's", LAST_FILL, LAST_FILL.replace("fill(1)", "fill(0)")),
    fault("steps are not awaited", "wgmma_wait<1>();", "wgmma_wait<2>();"),
    fault("the last step is not awaited", "wgmma_wait<0>();\n        weights_", "weights_"),
    fault("weights are not awaited", "        weights_.await_full(count_);\n", ""),
    fault("weights are freed too early", "weights_.release(count_ - 2);", "weights_.release(count_ - 1);"),
    fault(
        "weights are overwritten while they are read",
        "        ring.await_empty(count);\n        mbarrier_expect(ring.full(count), R::STEP_BYTES);",
        "        mbarrier_expect(ring.full(count), R::STEP_BYTES);",
    ),
    fault("the input is not awaited", "source_.await_full((pass + 1) * R::ROWS + 1);", ""),
    fault("the input is freed too early", "if (chunk + 1 == p_.chunks)", "if (chunk == 0)"),
    fault("a row of the input is freed too early", "group_ * 2 + tap / 3);", "group_ * 2 + tap / 3 + 1);"),
    fault("a row of the input is freed in each block", "tap % 3 == 0 && chunk + 1 == p_.chunks", "tap % 3 == 0"),
    fault(
        "the input is overwritten while it is read",
        "            ring.await_empty(row);\n            fetch_planes<R::PITCH, 96",
        "            fetch_planes<R::PITCH, 96",
    ),
    fault("a pass ends too early", ENDS, "end_pass(pass - 1, tap - 1)"),
    fault("a pass ends twice", "const bool ends = pass > 0 && chunk == 0;", "const bool ends = pass > 0;"),
    fault("a pass ends as the next one", ENDS, ENDS.replace("pass - 1", "pass")),
    fault("sums are not awaited", "        sync_group(2 + group_, 128);\n    }", "    }"),
    fault("the last sums take a place that is read", "        sync_group(1, 256);", "        "),
    fault("sums are not cleared", "        clear_sums(sums_of_row);\n", ""),
    fault("sums of the first row twice", "spread(few_[1], sums);", "spread(few_[0], sums);"),
    fault("no place is free", "place(old_place_ + p_.chunks)", "place(old_place_)"),
    fault("places do not take turns", "old_place_ = old_place_ == p_.chunks ? 0 : old_place_ + 1;", ""),
    fault("old ones from elsewhere", "(R::ROWS + row) * R::MIDDLE_ROW", "(R::ROWS - 1 + row) * R::MIDDLE_ROW"),
    fault("old ones are not there at first", "sts128(shared + R::MIDDLE + i * 16, {{0, 0, 0, 0}});", "{}"),
    fault("a pixel too many at the left", INSIDE, INSIDE.replace("x >= 0", "x >= -1"), 3),
    fault("a pixel too few at the left", INSIDE, INSIDE.replace("x >= -1", "x >= 0"), 3),
    fault("a pixel too many at the right", INSIDE, INSIDE.replace("x + 1 < width", "x < width")),
    fault("a row too many above", ROW_INSIDE, ROW_INSIDE.replace("y >= 0", "y >= -1")),
    fault("a row too many below", ROW_INSIDE, ROW_INSIDE.replace("y < height", "y <= height")),
)
