"""The training loop of every system: mixed precision, weight average, schedules, several processes, exact resume."""

from __future__ import annotations

import copy
import json
import math
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from srfast.checkpoint import save_checkpoint
from srfast.errors import CheckpointError, OutputError
from srfast.training.config import Config
from srfast.training.data import Batch, Source
from srfast.training.measures import better
from srfast.training.reparameterise import folded
from srfast.training.states import load_state, save_state
from srfast.training.systems import System, Terms, freeze_batch_norm

Scores = dict[str, float]


def learning_rate(config: Config, step: int, peak: float) -> float:
    """Of iteration ``step`` by the configuration's schedule."""
    if config.schedule == "steps":
        return peak * config.gamma ** sum(step >= m for m in config.milestones)
    if config.schedule == "constant":
        return peak
    length = config.period or config.iterations
    step = step % length if config.period else step
    warmup = max(1, length // 50)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, length - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Average:
    """Exponential moving average of a module's parameters and buffers."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the network's weights after a step; early steps count more, as the first averages are of little."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


class Trainer:
    """Trains a system and keeps its state in a folder.

    Iteration n draws its data and its random numbers from the seed and n alone, so a resumed run goes on exactly as if it had
    not stopped. With ``torch.distributed`` initialised, each process draws its own data and DDP averages the gradients. Means
    over a batch inside a loss (relativistic ones) and batch statistics are those of each process.

    Args:
        system: the networks and losses.
        source: the data.
        out: folder of the run; resumes if it holds a state.
        device: where to train.
        evaluate: scores of the averaged generator, computed at every save.
        report: gets each log record.
        judge_by: the score by which ``best.safetensors`` is kept, a value of ``measures.IN_LOG``.
        keep_all: keep the averaged generator of every save, to choose from a curve of distortion and perception.

    Raises:
        CheckpointError: the folder's state is of another configuration.
    """

    def __init__(
        self,
        system: System,
        source: Source,
        out: Path,
        device: torch.device,
        evaluate: Callable[[nn.Module], Scores] | None = None,
        report: Callable[[dict[str, Any], Trainer], None] | None = None,
        judge_by: str = "psnr",
        keep_all: bool = False,
    ) -> None:
        self.config, self.source, self.out, self.device = system.config, source, out, device
        self.system = system.to(device)
        self.networks = system.trained()
        for network in self.networks.values():
            # oneDNN and cuDNN have their fastest convolutions in this layout; autocast keeps it.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.evaluate, self.report = evaluate, report
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.optimizers = {
            # The rate here is a placeholder: every step sets its own, so that no scheduler's state has to be
            # resumed.
            name: torch.optim.Adam(network.parameters(), lr=1.0, betas=self.config.betas)
            for name, network in self.networks.items()
        }
        self.scalers = {
            name: torch.amp.GradScaler(device.type, enabled=self.config.amp == "fp16") for name in self.networks
        }
        self.average = Average(system.generator, self.config.ema)
        self.freeze_from = self.config.freeze_norm * self.config.iterations
        self.step, self.asked_to_stop, self.seconds_in_data = 0, False, 0.0
        self.judge_by, self.keep_all = judge_by, keep_all
        self.best: float | None = None
        out.mkdir(parents=True, exist_ok=True)
        if self.state_path.exists():
            self._resume(load_state(self.state_path))
        self.upscale: nn.Module = system.upscale
        self.judge: Callable[[Batch, Tensor], Terms] = system.discriminator_terms
        if dist.is_initialized():
            self._share()

    @property
    def state_path(self) -> Path:
        """Return the file from which the run goes on."""
        return self.out / "state.pt"

    @property
    def checkpoint_path(self) -> Path:
        """Return the file of the generator's weights."""
        return self.out / f"{self.config.generator}_x{self.config.scale}.safetensors"

    # One iteration

    def advance(self) -> Scores:
        """One iteration: the discriminator if there is one, then the generator. Returns every loss term."""
        config = self.config
        # Everything random in this iteration follows from (seed, process, iteration): that is what makes resuming
        # exact.
        torch.manual_seed((config.seed << 32) + (self.rank << 24) + self.step)
        self.system.train()
        if self.step >= self.freeze_from:
            freeze_batch_norm(self.system.generator)
        started = time.perf_counter()
        batch = self.source.batch(config.batch, self.step, self.rank).to(self.device)
        self.seconds_in_data += time.perf_counter() - started
        generates = self.step >= config.discriminator_first
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.amp, torch.float32)
        discriminator, losses = self.system.discriminator, {}
        with torch.autocast(self.device.type, kind, enabled=config.amp != "no"):
            fake = self.upscale(batch.lr).to(batch.hr.dtype)
            if discriminator is not None:
                # Detached: the discriminator's step needs no gradient through the generator, which is most of the
                # work.
                terms = self.judge(batch, fake.detach())
                losses.update({f"discriminator/{k}": v.item() for k, v in terms.items()})
                self._descend("discriminator", terms, config.lr_discriminator)
                # The generator's loss goes through the discriminator; its weights need no gradient there.
                discriminator.requires_grad_(False)
            terms = self.system.generator_terms(batch, fake) if generates else {}
        if generates:
            self._descend("generator", terms, config.lr)
        if discriminator is not None:
            discriminator.requires_grad_(True)
        losses.update({f"generator/{k}": v.item() for k, v in terms.items()})
        self.average.update(self.system.generator, self.step)
        self.step += 1
        if not all(math.isfinite(v) for v in losses.values()):
            raise FloatingPointError(
                f"iteration {self.step} gave {losses}; lower lr, set clip=0.5, or go on from {self.state_path} with amp=no"
            )
        return losses

    def _descend(self, name: str, terms: Terms, peak: float) -> None:
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        parameters = [p for p in self.networks[name].parameters() if p.requires_grad]
        optimizer.param_groups[0]["lr"] = learning_rate(self.config, self.step, peak)
        optimizer.zero_grad(set_to_none=True)
        # Summed in float32 at least: terms differ by orders of magnitude, and bfloat16 would drop the small ones.
        total: Tensor = torch.stack([t.to(torch.promote_types(t.dtype, torch.float32)) for t in terms.values()]).sum()
        scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if self.config.clip:
            # The limit is meant for the gradient itself, not for the gradient times the loss scale.
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, self.config.clip)
        scaler.step(optimizer)
        scaler.update()

    # The run

    def run(self) -> bool:
        """Trains to the configured length, saving on the way.

        Returns:
            False if it was interrupted (Ctrl-C, SIGTERM); the state is saved then too.
        """
        started, sums, counts, stopping = time.perf_counter(), Scores(), Counter[str](), False
        # Sums and counts are kept by name: a term may begin late (``discriminator_first``) and be a mean of fewer
        # steps.
        since, since_step, self.seconds_in_data = started, self.step, 0.0
        with self._stop_politely():
            while self.step < self.config.iterations and not stopping:
                for name, value in self.advance().items():
                    sums[name] = sums.get(name, 0.0) + value
                    counts[name] += 1
                stopping = self._agreed_to_stop()
                last = self.step == self.config.iterations or stopping
                saving = last or self.step % self.config.save_every == 0
                if saving or self.step % self.config.log_every == 0:
                    now = time.perf_counter()
                    record: dict[str, Any] = {"step": self.step, "seconds": round(now - started, 1)}
                    record |= {name: value / counts[name] for name, value in sums.items()}
                    record["it/s"] = (self.step - since_step) / max(now - since, 1e-9)
                    record["share of time in data"] = self.seconds_in_data / max(now - since, 1e-9)
                    if saving:
                        self.save()
                        record |= self.scores()
                    self._log(record)
                    sums, counts = Scores(), Counter[str]()
                    since, since_step, self.seconds_in_data = time.perf_counter(), self.step, 0.0
        return not stopping

    def scores(self) -> Scores:
        """Scores of the averaged generator, which is kept if they are the best."""
        scores = self.evaluate(folded(self.average.module)) if self.evaluate and self.rank == 0 else {}
        self._keep(scores)
        return scores

    def _keep(self, scores: Scores) -> None:
        """Writes the averaged generator to ``best.safetensors`` if it scores better than all before, and to a file of this
        iteration if every one is kept."""
        value = scores.get(self.judge_by, math.nan)
        if not math.isnan(value) and (self.best is None or better(self.judge_by, value, self.best)):
            self.best = value
            self._export(self.out / "best.safetensors")
        if self.keep_all and not self.rank:
            self._export(self.checkpoint_path.with_stem(f"{self.checkpoint_path.stem}_{self.step:06d}"))

    def _export(self, path: Path) -> None:
        try:
            save_checkpoint(folded(self.average.module), path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error}; the state is whole") from error

    def _agreed_to_stop(self) -> bool:
        """Whether any process was asked to stop: one that stopped alone would leave the others waiting for its gradients."""
        if not dist.is_initialized():
            return self.asked_to_stop
        asked = torch.tensor([int(self.asked_to_stop)], device=self.device)
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return bool(asked)

    @contextmanager
    def _stop_politely(self) -> Iterator[None]:
        """The first Ctrl-C ends after the running iteration, with a saved state; a second one ends at once."""

        def stop(number: int, _: FrameType | None) -> None:
            if self.asked_to_stop:
                raise KeyboardInterrupt
            self.asked_to_stop = True
            print("\nstopping after this iteration; once more stops at once", file=sys.stderr)

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                # A caller, such as a test or a notebook, gets its own handlers back.
                signal.signal(number, handler)

    def _log(self, record: dict[str, Any]) -> None:
        if self.rank:
            return
        with open(self.out / "log.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
        if self.report:
            self.report(record, self)

    # States

    def save(self) -> None:
        """Writes the state and the averaged generator as a checkpoint; each is whole or not there."""
        if self.rank:
            return
        state = {
            "config": json.dumps(asdict(self.config)),
            "step": self.step,
            "freeze_from": self.freeze_from,
            "networks": {k: v.state_dict() for k, v in self.networks.items()},
            "optimizers": {k: v.state_dict() for k, v in self.optimizers.items()},
            "scalers": {k: v.state_dict() for k, v in self.scalers.items()},
            "average": self.average.module.state_dict(),
            "best": (self.judge_by, self.best),
        }
        save_state(state, self.state_path)
        self._export(self.checkpoint_path)

    def _resume(self, state: dict[str, Any]) -> None:
        mine, plain = (json.loads(json.dumps(asdict(c))) for c in (self.config, Config()))
        theirs = {**plain, **json.loads(state["config"])}  # a setting it does not know yet was not in use
        # A run may be made longer and may report more often; anything else would be another run.
        free = {"save_every", "log_every"}
        # One cosine over the whole run depends on its length at every step; the other schedules only at their end.
        if self.config.schedule != "cosine" or self.config.period:
            free.add("iterations")
        changed = [k for k in mine if k not in free and theirs[k] != mine[k]]
        if changed:
            said = ", ".join(f"{k} was {theirs[k]!r} and is now {mine[k]!r}" for k in changed)
            raise CheckpointError(f"{self.state_path} is of another training: {said}; give another folder")
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
            self.optimizers[name].load_state_dict(state["optimizers"][name])
            self.scalers[name].load_state_dict(state["scalers"][name])
        self.average.module.load_state_dict(state["average"])
        judged_by, best = state.get("best", (self.judge_by, None))
        self.best = best if judged_by == self.judge_by else None
        self.step = state["step"]
        # A longer run goes on with the batch normalisation that is frozen already.
        frozen_from = state.get("freeze_from", theirs["freeze_norm"] * theirs["iterations"])
        if self.step > frozen_from:
            self.freeze_from = frozen_from

    def _share(self) -> None:
        """All processes start from the weights of the first, and average their gradients from then on."""
        # Batch statistics and the average are part of it: DDP itself would share the parameters only.
        for tensor in [*self.system.state_dict().values(), *self.average.module.state_dict().values()]:
            dist.broadcast(tensor, 0)
        self.upscale = DistributedDataParallel(self.system.upscale)
        if self.system.discriminator is not None:
            losses = _Losses(self.system.discriminator, self.system.discriminator_terms)
            self.judge = DistributedDataParallel(losses)


class _Losses(nn.Module):
    """A network's losses as one forward. DDP wants one forward for each backward, whatever the losses call inside: the
    discriminator on real and on generated images, and the gradient penalty."""

    def __init__(self, network: nn.Module, terms: Callable[[Batch, Tensor], Terms]) -> None:
        super().__init__()
        self.network, self.terms = network, terms

    def forward(self, batch: Batch, fake: Tensor) -> Terms:
        return self.terms(batch, fake)
