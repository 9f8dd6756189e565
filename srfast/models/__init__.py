"""Super-resolution networks as standard PyTorch modules."""

from srfast.models.compact import SRVGGNetCompact
from srfast.models.srresnet import SRResNet

__all__ = ["SRResNet", "SRVGGNetCompact"]
