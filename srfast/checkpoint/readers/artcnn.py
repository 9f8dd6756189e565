"""ArtCNN, as ArtCNN-PyTorch and traiNNer-redux write it."""

from __future__ import annotations

from srfast.checkpoint.recipe import Architecture, Hints, Layout, Recipe, Row, StateDict, count, renamed, shape, side
from srfast.models.artcnn import ArtCNN


def read_artcnn(state: StateDict, hints: Hints) -> Recipe:
    """``conv0``, ``res_block.N.conv.M``, ``depth_to_space.upscale.0``."""
    first, last = shape(state, "conv0.weight"), shape(state, "depth_to_space.upscale.0.weight")
    arguments = {
        "num_in_ch": first[1],
        "upscale": side("depth_to_space", last[0] / first[1]),
        "num_feat": first[0],
        "num_blocks": count(state, "res_block.{}.conv.0.0.weight"),
        "kernel": first[2],
    }
    return Recipe(ArtCNN, arguments, renamed(state, [(r"depth_to_space\.upscale\.", "upscale.")]))


ARCHITECTURES = (
    Architecture(
        ArtCNN,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "ArtCNN",
                "ArtCNN-PyTorch, traiNNer-redux",
                ("conv0.weight", "res_block.0.conv.0.0.weight", "depth_to_space.upscale.0.weight"),
                read_artcnn,
            ),
        ),
        rows=(Row("ArtCNN", "ArtCNN-PyTorch, traiNNer-redux", "exact"),),
    ),
)
