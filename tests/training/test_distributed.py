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


def interrupted(rank: int, folder: str, port: int) -> None:
    join(rank, port)
    system = SYSTEMS["psnr"](replace(PSNR, iterations=20, save_every=20)).double()
    trainer = Trainer(system, Interrupted(), Path(folder), torch.device("cpu"))
    assert not trainer.run()
    assert trainer.step == 3
    dist.destroy_process_group()


def join(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))


def worker(rank: int, config: Config, folder: str, port: int) -> None:
    join(rank, port)
    torch.save(train(config, Path(folder)), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


needs_gloo = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="this PyTorch has no gloo"
)


@needs_gloo
def test_one_process_asked_to_stop_stops_all(tmp_path: Path) -> None:
    """After the same iteration: nobody waits for the gradients of one that is gone, and the state is whole."""
    mp.spawn(interrupted, (str(tmp_path), 20_000 + (os.getpid() + 1) % 20_000), nprocs=2)
    assert load_state(tmp_path / "state.pt")["step"] == 3


@needs_gloo
@pytest.mark.parametrize(("config", "equal"), [(PSNR, True), (GAN, True), (RAGP, False)], ids=["psnr", "gan", "ragp"])
def test_two_processes_equal_one_with_twice_the_batch(config: Config, equal: bool, tmp_path: Path) -> None:
    """The relativistic losses look at means over a process's batch: there only the ranks are equal."""
    mp.spawn(worker, (config, str(tmp_path), 20_000 + os.getpid() % 20_000), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in range(2))
    alone = train(replace(config, batch=4), tmp_path / "alone")
    assert len(alone) > 6
    for name, expected in alone.items():
        assert torch.equal(first[name], second[name])
        if equal:
            torch.testing.assert_close(first[name], expected, rtol=0, atol=1e-9)
    assert (tmp_path / "state.pt").is_file()
