"""Trains SRResNet or Compact for PSNR: ``python -m srfast.training.train --model srresnet --data FOLDER --out RUN``.

L1 loss, Adam, cosine learning rate, an exponential moving average of the weights. A run resumes from its own state file
and writes a checkpoint that ``srfast.load`` takes. (L1 instead of the paper's MSE: Lim et al. 2017,
https://arxiv.org/abs/1707.02921, section 3.2.)
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.checkpoint import load_model, save_checkpoint
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.models.srresnet import ResidualBlock, UpsampleBlock
from srfast.models.subpixel import conv_before_shuffle
from srfast.training.data import PatchPairs
from srfast.training.evaluate import evaluate, mean_psnr
from srfast.training.transfer import start_from


def start_from_interpolation(model: nn.Module) -> None:
    """Initialises the network near interpolation, from where a short training gets further.

    The first three channels carry the image through every layer (Dirac kernels; residual branches start at zero, as in
    Goyal et al. 2017, https://arxiv.org/abs/1706.02677), the others keep a damped default initialisation.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            with torch.no_grad():
                module.weight.mul_(0.5)
                if module.bias is not None:
                    module.bias.zero_()
    if isinstance(model, SRResNet):
        _carry_image(model)
    elif isinstance(model, SRVGGNetCompact):
        convs = [m for m in model.body if isinstance(m, nn.Conv2d)]
        with torch.no_grad():
            for conv in convs[:-1]:
                _add_dirac(conv)
            convs[-1].weight.mul_(0.1)


def _add_dirac(conv: nn.Conv2d) -> None:
    centre = conv.kernel_size[0] // 2
    for channel in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[channel, channel, centre, centre] += 1.0


@torch.no_grad()
def _carry_image(model: SRResNet) -> None:
    first = model.conv1[0]
    colours = model.conv3.out_channels
    assert isinstance(first, nn.Conv2d)
    first.weight[:colours].zero_()
    for c in range(colours):
        first.weight[c, c, 4, 4] = 1.0
    branches = [block.rcb for block in model.trunk if isinstance(block, ResidualBlock)]
    for norm in [branch[-1] for branch in [*branches, model.conv2]]:
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)
    linear = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])  # the two phases of 2x linear interpolation
    for conv in [m for m in model.upsampling.modules() if isinstance(m, nn.Conv2d)]:
        conv.weight[: 4 * colours].zero_()
        for c in range(colours):
            for phase in range(4):
                conv.weight[4 * c + phase, c] = torch.outer(linear[phase // 2], linear[phase % 2])
    model.conv3.weight.mul_(0.2)
    for c in range(colours):
        model.conv3.weight[c, c, 4, 4] += 1.0


def forward_train(model: nn.Module, x: Tensor) -> Tensor:
    """The network's own forward, but for SRResNet with the tail at the lower resolution: same function, less time."""
    if not isinstance(model, SRResNet):
        out: Tensor = model(x)
        return out
    shallow = model.conv1(x)
    out = model.conv2(model.trunk(shallow)) + shallow
    out = model.upsampling[:-1](out)
    last = model.upsampling[-1]
    assert isinstance(last, UpsampleBlock)
    out = last.upsample_block[2](last.upsample_block[0](out))  # one shared slope commutes with the shuffle
    out = F.conv2d(out, conv_before_shuffle(model.conv3.weight, 2), padding=2)
    bias = model.conv3.bias
    assert bias is not None
    return F.pixel_shuffle(out, 2) + bias[:, None, None]


def learning_rate(step: int, total: int, peak: float) -> float:
    """Linear warm-up over 2% of the run, then a cosine down to 1% of the peak."""
    warmup = max(1, total // 50)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Average:
    """Exponential moving average of a module's parameters and buffers."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


def build_model(name: str, scale: int, channels: int, blocks: int) -> nn.Module:
    """The network to train; ``blocks`` counts residual blocks or, for Compact, middle convolutions."""
    if name == "srresnet":
        return SRResNet(scale, channels=channels, num_blocks=blocks)
    return SRVGGNetCompact(upscale=scale, num_feat=channels, num_conv=blocks)


def freeze_batch_norm(model: nn.Module) -> None:
    """Trains on with the running statistics, so that training and inference compute the same function."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def train(args: argparse.Namespace) -> None:
    """Runs or resumes one training; see ``parser`` for the arguments."""
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    state_path = args.out / "state.pt"
    model = build_model(args.model, args.scale, args.channels, args.blocks)
    pairs = PatchPairs(args.data, args.scale, args.patch, seed=args.seed)
    if args.init:
        start_from(model, load_model(args.init).module, pairs)
    else:
        start_from_interpolation(model)
    model = model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = Average(model, args.ema)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.99))
    step = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        print(f"resuming at iteration {step}", flush=True)
        pairs.random.seed(args.seed + step)
    print(f"{len(pairs.pairs)} photographs, {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    started, losses = time.perf_counter(), []
    while step < args.iterations:
        if step >= args.iterations * 0.8:
            freeze_batch_norm(model)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.iterations, args.lr)
        lr, hr = (t.to(device, memory_format=torch.channels_last) for t in pairs.batch(args.batch))
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            loss = F.l1_loss(forward_train(model, lr).float(), hr)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        average.update(model, step)
        losses.append(loss.item())
        step += 1
        if step % args.save_every == 0 or step == args.iterations:
            _save(args, model, average, optimizer, step)
            psnr = f"{mean_psnr(evaluate(average.module, args.eval, args.scale)):.3f} dB" if args.eval else "not asked"
            mean_loss, seconds = sum(losses) / len(losses), time.perf_counter() - started
            print(f"{step}/{args.iterations} L1 {mean_loss:.5f}, PSNR-Y {psnr}, {seconds:.0f} s", flush=True)
            losses.clear()


def _save(
    args: argparse.Namespace, model: nn.Module, average: Average, optimizer: torch.optim.Optimizer, step: int
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    partial = args.out / "state.pt.partial"
    torch.save(state, partial)
    os.replace(partial, args.out / "state.pt")
    save_checkpoint(average.module, args.out / f"{args.model}_x{args.scale}.safetensors")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m srfast.training.train", description=__doc__)
    p.add_argument("--model", choices=["srresnet", "compact"], required=True)
    p.add_argument("--data", type=Path, nargs="+", required=True, help="folders of photographs")
    p.add_argument("--out", type=Path, required=True, help="folder of the run; resumes if it holds a state")
    p.add_argument("--eval", type=Path, help="folder of HR images to report PSNR-Y on")
    p.add_argument("--init", help="checkpoint or shipped model to start from, of this or a larger scale")
    p.add_argument("--scale", type=int, default=4)
    p.add_argument("--channels", type=int, default=64)
    p.add_argument("--blocks", type=int, default=16)
    p.add_argument("--iterations", type=int, default=10_000)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--patch", type=int, default=24, help="side of the LR patch")
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--clip", type=float, default=0.5, help="largest gradient norm")
    p.add_argument("--ema", type=float, default=0.998, help="decay of the weight average")
    p.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves PyTorch's choice")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--save-every", type=int, default=200)
    return p


if __name__ == "__main__":
    train(parser().parse_args())
