"""The emulation layer itself: it computes what a GPU does, and finds what a GPU would only sometimes show."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.cuda import emulation as cuda_emulation


@pytest.fixture(scope="module")
def faults() -> Any:
    name = "srfast_emulation_faults"
    folder = cuda_emulation.REPOSITORY / "build" / "emulation_faults"
    return cuda_emulation.load(cuda_emulation.build(folder, ("faulty.cpp", "fiber_switch.cpp"), name), name)


NUMBERS = torch.randn(256, generator=torch.Generator().manual_seed(0)).half().float()


def test_right_kernels(faults: Any) -> None:
    given = NUMBERS.tolist()
    assert faults.run("exchange", 64, given)[:64] == [float((t + 32) % 64) for t in range(64)]
    faults.run("reuse", 64, given)
    faults.run("uniform", 64, given)
    assert faults.run("copy", 64, given)[:64] == given[:64]
    product = torch.tensor(faults.run("multiply", 32, given)[:128]).view(16, 8)
    assert torch.equal(product, NUMBERS.view(16, 16)[:, :8] + 0.5)


def test_right_hopper_instructions(faults: Any) -> None:
    given = NUMBERS.tolist()
    stored = torch.tensor(faults.run("transpose", 32, given)[:128]).view(2, 8, 8)
    assert torch.equal(stored, NUMBERS[:128].view(2, 8, 8).transpose(1, 2))
    stored = torch.tensor(faults.run("store", 32, given)[:256]).view(8, 4, 8)
    assert torch.equal(stored, NUMBERS.view(4, 8, 8).transpose(0, 1))
    rows, columns, channels = torch.arange(64)[:, None], torch.arange(64)[:, None], torch.arange(16)[None]
    left, right = NUMBERS[(rows + channels * 5) % 256], NUMBERS[((columns + 1) * 3 + channels) % 256]
    product = torch.tensor(faults.run("hold", 128, given)).view(64, 64)
    torch.testing.assert_close(product, left @ right.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "threads", "message"),
    [
        ("no barrier", 64, "reads shared memory that nothing wrote|without a barrier"),
        ("unwritten", 64, "reads shared memory that nothing wrote"),
        ("reuse without barrier", 64, "may still read|without a barrier"),
        ("copy without wait", 64, "reads shared memory that nothing wrote"),
        ("copy without barrier", 64, "nothing wrote|without a barrier"),
        ("copy left", 64, "nothing waited for"),
        ("store of exchanged halves", 32, "two blocks have different results"),
        ("uniform of some lanes", 64, "waits for a warp's collective instruction"),
        ("uniform of two values", 64, "differ in what is said to be uniform"),
        ("hold without fence", 128, "without a proxy fence"),
        ("hold without barrier", 128, "nothing wrote|without a barrier"),
        ("hold begun before the barrier", 128, "nothing wrote|without a barrier"),
        ("deadlock", 64, "deadlock: thread 0 waits for a barrier"),
        ("diverge", 32, "different collective instructions"),
        ("outside", 32, "the block has 4096"),
        ("unaligned", 32, "not aligned to 4"),
    ],
)
def test_faults_are_found(faults: Any, kernel: str, threads: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        faults.run(kernel, threads, NUMBERS.tolist())


def test_blocks_at_the_same_time(faults: Any) -> None:
    """Each thread gets what the block behind its own got from the one behind that."""
    assert faults.run_together("pass on") == [float((t + 128) % 192 + 1) for t in range(192)]


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("told before the stores", "reads what another block wrote without a counter"),
        ("no wait", "another block (wrote|may still read) without a counter"),
        ("a wait for too little", "another block (wrote|may still read) without a counter"),
        ("told without barrier", "reads what another block wrote without a counter"),
        ("waited without barrier", "another block (wrote|may still read) without a counter"),
        ("overwritten while read", "another block (wrote|may still read) without a counter"),
        ("read as constant", "reads as constant what this kernel wrote"),
        ("nobody counts", "deadlock: thread 0 waits for a counter, in block 0"),
    ],
)
def test_faults_between_blocks_are_found(faults: Any, kernel: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        faults.run_together(kernel)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding(faults: Any, dtype: torch.dtype) -> None:
    """As PyTorch rounds, with subnormal numbers, ties and overflow."""
    scales = 2.0 ** torch.arange(-30, 20).float()
    values = torch.cat(
        [(NUMBERS[:64, None] * scales).flatten(), torch.tensor([0.0, -0.0, 65519.0, 65520.0, 1e30, 2049.0])]
    )
    got = torch.tensor(faults.rounded(values.tolist(), dtype == torch.bfloat16))
    assert torch.equal(got, values.to(dtype).float())
