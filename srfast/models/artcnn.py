"""ArtCNN (https://github.com/Artoriuz/ArtCNN): a residual network with ReLU, often for luma alone."""

from __future__ import annotations

from torch import Tensor, nn


class _Block(nn.Module):
    def __init__(self, filters: int, kernel: int) -> None:
        super().__init__()

        def conv() -> nn.Conv2d:
            return nn.Conv2d(filters, filters, kernel, padding=kernel // 2)

        self.conv = nn.Sequential(nn.Sequential(conv(), nn.ReLU()), nn.Sequential(conv(), nn.ReLU()), conv())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.conv(x)
        return result


class ArtCNN(nn.Module):
    """Blocks of three convolutions, one more, and a pixel shuffle; images in 0..1.

    Args:
        num_in_ch: colour planes in and out.
        upscale: pixel-shuffle factor.
        num_feat: width.
        num_blocks: of three convolutions each.
        kernel: odd side of all convolutions.
    """

    def __init__(
        self, num_in_ch: int = 3, upscale: int = 4, num_feat: int = 96, num_blocks: int = 16, kernel: int = 3
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel must be odd, not {kernel}")
        self.scale = upscale

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

        self.conv0 = conv(num_in_ch, num_feat)
        blocks = (_Block(num_feat, kernel) for _ in range(num_blocks))
        self.res_block = nn.Sequential(*blocks, conv(num_feat, num_feat))
        self.upscale = nn.Sequential(conv(num_feat, num_in_ch * upscale**2), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1 -> [N, num_in_ch, upscale * H, upscale * W], not clamped."""
        x = self.conv0(x)
        result: Tensor = self.upscale(x + self.res_block(x))
        return result
