"""Super-resolution networks as standard PyTorch modules."""

from srfast.models.artcnn import ArtCNN
from srfast.models.bordered import Bordered
from srfast.models.compact import SRVGGNetCompact
from srfast.models.cugan import RealCUGAN
from srfast.models.imdn import IMDN
from srfast.models.plksr import RealPLKSR
from srfast.models.rcan import RCAN
from srfast.models.residual import ResidualSR, edsr, msrresnet
from srfast.models.rrdbnet import RRDBNet
from srfast.models.rtmosr import RTMoSR
from srfast.models.span import SPAN, SPANF3
from srfast.models.srresnet import SRResNet, digit_srgan
from srfast.models.ugan import SRUGAN

__all__ = [
    "IMDN",
    "RCAN",
    "SPAN",
    "SPANF3",
    "SRUGAN",
    "ArtCNN",
    "Bordered",
    "RRDBNet",
    "RTMoSR",
    "RealCUGAN",
    "RealPLKSR",
    "ResidualSR",
    "SRResNet",
    "SRVGGNetCompact",
    "digit_srgan",
    "edsr",
    "msrresnet",
]
