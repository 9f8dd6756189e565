"""A configuration for every published system."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from srfast.training.config import Config

# The publications take phi(5,4) of VGG19: --set backbone=vgg19.pth "phi=(5,4)" where its weights are at hand. VGG16's last layer
# is phi(5,3).
VGG16: dict[str, Any] = {"backbone": "vgg16.safetensors", "phi": (5, 3)}
# Ledig et al. 2017, section 3.2: 96x96 HR crops, batch 16, Adam; SRResNet 1e6 iterations at 1e-4, then the GAN 1e5 at 1e-4 and
# 1e5 at 1e-5. ``freeze_norm`` and the average are this project's.
SRRESNET = Config(iterations=1_000_000)
SRGAN = Config(
    system="gan",
    iterations=200_000,
    schedule="steps",
    milestones=(100_000,),
    content="vgg",
    **VGG16,
)
# The quick recipe of the shipped weights: L1 (Lim et al. 2017, https://arxiv.org/abs/1707.02921, section 3.2), a larger rate,
# a cosine, clipped gradients.
QUICK = Config(
    iterations=3200,
    lr=5e-4,
    schedule="cosine",
    betas=(0.9, 0.99),
    clip=0.5,
    ema=0.998,
    freeze_norm=0.8,
    pixel="l1",
    save_every=200,
)
# Wang et al. 2018, https://arxiv.org/abs/1809.00219, section 4.1: 128x128 HR crops, batch 16, 2e-4 halved every 2e5; then 1e-4
# halved at 50k, 100k, 200k, 300k with L1 * 1e-2 + perceptual + RaGAN * 5e-3.
RRDB = Config(
    generator="rrdb",
    blocks=23,
    patch=32,
    iterations=1_000_000,
    lr=2e-4,
    schedule="steps",
    milestones=(200_000, 400_000, 600_000, 800_000),
    gamma=0.5,
    pixel="l1",
)
ESRGAN = replace(
    RRDB,
    system="gan",
    iterations=400_000,
    lr=1e-4,
    milestones=(50_000, 100_000, 200_000, 300_000),
    pixel_weight=1e-2,
    content="vgg",
    **VGG16,
    adversarial="ragan",
    adversarial_weight=5e-3,
)
DIGITS = Config(
    system="digits",
    generator="digits",
    colours=1,
    blocks=4,
    patch=7,
    batch=128,
    iterations=2000,
    discriminator_channels=32,
    save_every=200,
)
# MSE of images in -1..1 is four times that of images in 0..1.
UGAN = Config(
    system="ugan",
    generator="ugan",
    channels=32,
    growth=16,
    blocks=8,
    iterations=100_000,
    pixel_weight=4.0,
    content="vgg",
    **VGG16,
    class_weight=1.0,
)

# For a machine without a GPU: no backbone, narrow networks, small patches. L1 weighs ten times what it does in ESRGAN, as no
# content loss holds the colours.
SMALL: dict[str, Any] = {"patch": 16, "batch": 8, "discriminator_channels": 16, "log_every": 10, "save_every": 25}
SMALL_GAN: dict[str, Any] = {**SMALL, "content": "none", "backbone": "", "pixel_weight": 0.1, "schedule": "constant"}
SMALL_RRDB: dict[str, Any] = {"channels": 16, "growth": 8, "blocks": 2}
# The recipe of the shipped srgan_x4. Without batch statistics, which hide from the discriminator how sharp an image is, and with
# a discriminator that has learned for a while before the generator listens to it.
SRGAN_SMALL = replace(
    SRGAN,
    **{**SMALL_GAN, "schedule": "steps", "save_every": 50},
    iterations=500,
    milestones=(350, 420),
    gamma=0.3,
    lr=1e-5,
    lr_discriminator=4e-4,
    pixel="l1",
    adversarial="ragan",
    adversarial_weight=5e-3,
    freeze_norm=0.0,
    frozen_blocks=12,
    discriminator_norm="none",
    discriminator_first=200,
    jitter=4,
    ema=0.98,
)
# From a PSNR network, in hours on a CPU: a perceptual distance on VGG16 leads, L1 holds the colours, RaGAN adds texture.
# The rate halves and does not end, so that a run can be made longer.
SRGAN_FINE = replace(
    SRGAN,
    iterations=6000,
    batch=4,
    lr=2e-4,
    lr_discriminator=2e-4,
    milestones=(600, 1200, 2400),
    gamma=0.5,
    clip=1.0,
    ema=0.99,
    freeze_norm=0.0,
    pixel="l1",
    adversarial="ragan",
    adversarial_weight=1e-2,
    discriminator_channels=32,
    discriminator_norm="none",
    jitter=8,
    save_every=50,
    log_every=10,
)
# What the arms of an ablation have in common: a network that begins trained, so that hundreds of iterations show something.
ABLATION_GAN = replace(
    SRGAN_FINE,
    generator="compact",
    iterations=300,
    lr=1e-4,
    milestones=(150, 225),
    adversarial_weight=5e-3,
    discriminator_first=50,
    ema=0.98,
    save_every=100,
)
ABLATION_PSNR = Config(
    generator="compact",
    iterations=1000,
    batch=8,
    lr=1e-4,
    schedule="cosine",
    clip=0.5,
    ema=0.99,
    pixel="l1",
    save_every=250,
)
# SR-UGAN for a machine without a GPU: its generator on pixels first, then the whole system from there.
UGAN_SIZE: dict[str, Any] = {"generator": "ugan", "channels": 32, "growth": 16, "blocks": 4}
UGAN_QUICK = replace(QUICK, **UGAN_SIZE, iterations=2500, lr=1e-3, freeze_norm=0.7, ema=0.999)
UGAN_FINE = replace(
    UGAN,
    **UGAN_SIZE,
    iterations=300,
    batch=8,
    lr=5e-5,
    lr_discriminator=1e-4,
    clip=0.5,
    freeze_norm=0.0,
    discriminator_channels=32,
    discriminator_first=50,
    ema=0.98,
    save_every=50,
    log_every=10,
)
ESRGAN_SMALL = replace(
    ESRGAN, **SMALL_GAN, **SMALL_RRDB, iterations=200, lr_discriminator=2e-4, discriminator_norm="none", ema=0.95
)
RRDB_SMALL = replace(
    RRDB, **SMALL, **SMALL_RRDB, iterations=300, lr=1e-3, schedule="cosine", milestones=(), clip=0.5, ema=0.99
)

PRESETS: dict[str, Config] = {
    "srresnet_x4": SRRESNET,
    "srresnet_x2": replace(SRRESNET, scale=2, patch=48),
    "srresnet_quick_x4": QUICK,
    "srresnet_quick_x2": replace(QUICK, scale=2),
    "compact_x4": replace(QUICK, generator="compact", lr=1e-3),
    "compact_x2": replace(QUICK, generator="compact", lr=1e-3, scale=2),
    "compact_footage_x4": replace(QUICK, generator="compact", degradation="footage", lr=3e-4),
    "compact_footage_x2": replace(QUICK, generator="compact", degradation="footage", lr=3e-4, scale=2),
    "srgan_x4": SRGAN,
    "srgan_x2": replace(SRGAN, scale=2, patch=48),
    "srgan_small_x4": SRGAN_SMALL,
    "srgan_lpips_x4": replace(SRGAN_FINE, content="lpips"),
    "srgan_dists_x4": replace(SRGAN_FINE, content="dists"),
    "srgan_vgg16_x4": replace(SRGAN_FINE, phi=(5, 3, 2, 2)),
    "digits_x4": DIGITS,
    "digits_x2": replace(DIGITS, scale=2, patch=14),
    "digits_classifier_x4": replace(DIGITS, class_weight=0.1),
    "digits_classifier_x2": replace(DIGITS, scale=2, patch=14, class_weight=0.1),
    "ugan_x4": UGAN,
    "ugan_x2": replace(UGAN, scale=2, patch=48),
    "ugan_quick_x4": UGAN_QUICK,
    "ugan_quick_x2": replace(UGAN_QUICK, scale=2),
    "ugan_fine_x4": UGAN_FINE,
    "ugan_fine_x2": replace(UGAN_FINE, scale=2),
    "rrdb_x4": RRDB,
    "rrdb_small_x4": RRDB_SMALL,
    "ablation_gan_x4": ABLATION_GAN,
    "ablation_psnr_x4": ABLATION_PSNR,
    "esrgan_x4": ESRGAN,
    "esrgan_small_x4": ESRGAN_SMALL,
    "esrgan_lpips_x4": replace(ESRGAN, content="lpips"),
    "esrgan_ragp_x4": replace(ESRGAN, adversarial="ragp", discriminator_norm="none"),
    "esrgan_lpips_ragp_fft_x4": replace(
        ESRGAN,
        content="lpips",
        adversarial="ragp",
        discriminator_norm="none",
        frequency="fft",
        frequency_weight=1e-2,
    ),
}
