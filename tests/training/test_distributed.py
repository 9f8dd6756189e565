"""Two processes train as one with twice the batch."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from srfast.training.config import Config
from srfast.training.data import Batch
from srfast.training.states import load_state
from srfast.training.train import SYSTEMS
from srfast.training.trainer import Trainer

PSNR = Config(generator="compact", scale=2, channels=4, blocks=1, patch=8, batch=2, iterations=3, clip=1.0)
# Without batch statistics and with the plain loss every image counts alone, so the global batch is what matters.
GAN = replace(PSNR, system="gan", discriminator_channels=4, discriminator_norm="none", adversarial_weight=0.1)
RAGP = replace(GAN, adversarial="ragp")


class Halves:
    """Rank r sees half r of a batch of four; one process alone sees all of it."""

    classes = 1

    def batch(self, size: int, step: int, rank: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(step)
        lr, hr = (torch.rand(4, 3, side, side, generator=generator, dtype=torch.float64) for side in (8, 16))
        part = slice(rank * size, (rank + 1) * size)
        return Batch(lr[part], hr[part], torch.zeros(size, dtype=torch.long))


def train(config: Config, folder: Path) -> dict[str, Tensor]:
    """In float64: Adam makes whole steps of rounding errors where gradients vanish."""
    torch.manual_seed(dist.get_rank() if dist.is_initialized() else 0)  # ranks start apart and are made equal
    trainer = Trainer(SYSTEMS[config.system](config).double(), Halves(), folder, torch.device("cpu"))
    for _ in range(3):
        trainer.advance()
    trainer.save()
    return {k: v for k, v in trainer.system.state_dict().items() if k.startswith(tuple(trainer.networks))}


class Interrupted(Halves):
    """Rank 1 alone is asked to stop, in its third iteration."""

    def batch(self, size: int, step: int, rank: int = 0) -> Batch:
        if rank == 1 and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(size, step, rank)


def join(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))


CONFIGS = {"psnr": (PSNR, True), "gan": (GAN, True), "ragp": (RAGP, False)}


def work(rank: int, folder: str, port: int) -> None:
    """All that two processes do, as each start of them takes longer than their work."""
    join(rank, port)
    for name, (config, _) in CONFIGS.items():
        torch.save(train(config, Path(folder, name)), f"{folder}/{name}-{rank}.pt")
    system = SYSTEMS["psnr"](replace(PSNR, iterations=20, save_every=20)).double()
    trainer = Trainer(system, Interrupted(), Path(folder, "interrupted"), torch.device("cpu"))
    assert not trainer.run()
    torch.save(trainer.step, f"{folder}/interrupted-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have written."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this PyTorch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, (str(folder), 20_000 + os.getpid() % 20_000), nprocs=2)
    return folder


def test_one_process_asked_to_stop_stops_all(ranks: Path) -> None:
    """After the same iteration: nobody waits for the gradients of one that is gone, and the state is whole."""
    assert [torch.load(ranks / f"interrupted-{rank}.pt") for rank in range(2)] == [3, 3]
    assert load_state(ranks / "interrupted" / "state.pt")["step"] == 3


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_equal_one_with_twice_the_batch(ranks: Path, name: str, tmp_path: Path) -> None:
    """The relativistic losses look at means over a process's batch: there only the ranks are equal."""
    config, equal = CONFIGS[name]
    first, second = (torch.load(ranks / f"{name}-{rank}.pt", weights_only=True) for rank in range(2))
    alone = train(replace(config, batch=4), tmp_path)
    assert len(alone) > 6
    for key, expected in alone.items():
        assert torch.equal(first[key], second[key])
        if equal:
            torch.testing.assert_close(first[key], expected, rtol=0, atol=1e-9)
    assert (ranks / name / "state.pt").is_file()
