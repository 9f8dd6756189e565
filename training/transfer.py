"""Starts a network of one scale from a trained one of another: what fits is copied, the last convolution is fitted."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models import SRResNet, SRVGGNetCompact
from srfast.training.data import Source


@torch.no_grad()
def start_from(model: nn.Module, trained: nn.Module, data: Source) -> None:
    """Copies every tensor of ``trained`` that has its place in ``model``, then makes the last convolution fit.

    Args:
        model: the network to start, on the CPU; changed in place.
        trained: a network of the same kind, possibly of a larger scale.
        data: pairs to fit SRResNet's last convolution on.

    Raises:
        ValueError: the networks share no tensor, or a tensor inside the body differs in shape.
    """
    mine, theirs = model.state_dict(), trained.state_dict()
    shared = {k: v for k, v in theirs.items() if k in mine and mine[k].shape == v.shape}
    missing = [k for k in mine if k not in shared]
    # Only what turns features into pixels of one scale may differ; a difference elsewhere is another network.
    last = "conv3." if isinstance(model, SRResNet) else f"body.{len(getattr(model, 'body', ())) - 1}."
    if not shared or any(not k.startswith(last) for k in missing):
        raise ValueError(
            f"{_called(trained)} cannot start {_called(model)}: "
            f"{', '.join(missing[:4])} have no counterpart of the same shape; give a checkpoint of the same width and depth"
        )
    model.load_state_dict({**mine, **shared})
    if missing and isinstance(model, SRVGGNetCompact) and isinstance(trained, SRVGGNetCompact):
        for key in missing:
            model.state_dict()[key].copy_(_average_phases(theirs[key], trained.scale, model.scale))
    elif isinstance(model, SRResNet) and trained.scale != model.scale:
        _fit_last_convolution(model, data)


def _called(model: nn.Module) -> str:
    """Its class and, where it has one, its scale; graphs from ONNX files have none."""
    scale = getattr(model, "scale", None)
    return type(model).__name__ + (f" x{scale}" if scale else "")


def _average_phases(weight: Tensor, from_scale: int, to_scale: int) -> Tensor:
    """[C*from^2, ...] -> [C*to^2, ...]: the network's output shrunk by a box filter, written into its last weights."""
    if from_scale % to_scale:
        raise ValueError(f"the trained scale {from_scale} must be a multiple of {to_scale}")
    f = from_scale // to_scale
    tail = weight.shape[1:]
    # The shuffle's order is (channel, row phase, column phase): f x f phases make one of the smaller enlargement.
    split = weight.reshape(-1, to_scale, f, to_scale, f, *tail)
    return split.mean((2, 4)).reshape(-1, *tail)


def _fit_last_convolution(model: SRResNet, data: Source, batches: int = 16, side: int = 5) -> None:
    """Least squares of the HR image on the features before ``conv3``, with the inner ``side`` x ``side`` taps."""
    channels = model.conv3.in_channels
    colours = model.conv3.out_channels
    size = channels * side**2 + 1
    # Normal equations, summed over batches in float64: the features of all batches at once would not fit in memory.
    gram, moment = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, colours, dtype=torch.float64)
    model.eval()
    for step in range(batches):
        batch = data.batch(2, step)
        shallow = model.conv1(batch.lr)
        features = model.upsampling(model.conv2(model.trunk(shallow)) + shallow)
        rows = F.unfold(features, side, padding=side // 2).transpose(1, 2).reshape(-1, size - 1)
        rows = torch.cat((rows, torch.ones(len(rows), 1)), 1)
        gram += (rows.T @ rows).double()
        moment += (rows.T @ batch.hr.permute(0, 2, 3, 1).reshape(-1, colours)).double()
    # A little ridge: features of neighbouring taps are nearly equal, and the system nearly singular.
    gram += torch.eye(size, dtype=torch.float64) * gram.diagonal().mean() * 1e-4
    solution = torch.linalg.solve(gram, moment).float()
    margin = (model.conv3.kernel_size[0] - side) // 2
    model.conv3.weight.zero_()
    inner = slice(margin, margin + side)
    model.conv3.weight[:, :, inner, inner] = solution[:-1].T.reshape(colours, channels, side, side)
    assert model.conv3.bias is not None
    model.conv3.bias.copy_(solution[-1])
    model.train()
