"""What readers of graphs write to: a module of plain layers, traced by ``torch.fx`` as it grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx, nn

MAX_CHANNELS = 2048  # of one activation that a layer reads or writes
MAX_FACTOR = 16  # of one enlargement


class GraphBuilder:
    """A graph with its layers, one call after another.

    Attributes:
        root: holds the layers.
        fx: the calls.
    """

    def __init__(self) -> None:
        self.root = nn.Module()
        self.fx = fx.Graph()
        self.layers = 0

    def layer(self, module: nn.Module, x: fx.Node) -> fx.Node:
        """A call of a new submodule."""
        # Names of the file are not used: they may be none that PyTorch takes for a module.
        name = f"layer{self.layers}"
        self.layers += 1
        self.root.add_module(name, module)
        return self.fx.call_module(name, (x,))

    def constant(self, value: np.ndarray[Any, Any]) -> fx.Node | float:
        """A number, or a buffer."""
        if value.size == 1:
            return float(value.reshape(-1)[0])
        name = f"constant{self.layers}"
        self.layers += 1
        self.root.register_buffer(name, torch.from_numpy(value.astype(np.float32)))
        return self.fx.get_attr(name)
