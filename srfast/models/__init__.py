"""Super-resolution networks as standard PyTorch modules."""

from srfast.models.bordered import Bordered
from srfast.models.compact import SRVGGNetCompact
from srfast.models.residual import ResidualSR, edsr, msrresnet
from srfast.models.rrdbnet import RRDBNet
from srfast.models.srresnet import SRResNet, digit_srgan
from srfast.models.ugan import SRUGAN

__all__ = [
    "SRUGAN",
    "Bordered",
    "RRDBNet",
    "ResidualSR",
    "SRResNet",
    "SRVGGNetCompact",
    "digit_srgan",
    "edsr",
    "msrresnet",
]
