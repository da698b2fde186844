"""Networks whose features are linear in each other's, so that a stitching layer can be exact."""
import torch
from torch import nn


class Stem(nn.Sequential):
    """The backbone's stem for small images."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class AffineNorm(nn.Module):
    """What a stitching layer can compute, with other numbers: norm, linear map with bias, LeakyReLU."""

    def __init__(self, width: int, out: int, stride: int, tokens: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if tokens else nn.BatchNorm2d(width)
        self.map = nn.Linear(width, out) if tokens else nn.Conv2d(width, out, stride, stride)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.map(self.norm(x)))


class Mixer(nn.Module):
    """A residual layer over channels."""

    def __init__(self, width: int, tokens: bool) -> None:
        super().__init__()
        self.map = nn.Linear(width, width) if tokens else nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.map(x).tanh()


class Toy(nn.Module):
    """Stem, a first block, an affine map in the middle, a second block.

    Args:
        width: Channels before the middle.
        out: Channels behind it.
        stride: Of the middle.
        tokens: Blocks take tokens instead of maps.
        extra: Extra tokens in front of those of the map (only with ``tokens``).
        linear: The middle is nothing but a linear map with a bias.
    """

    def __init__(self, width: int = 6, out: int = 5, stride: int = 1, tokens: bool = False, extra: int = 0,
                 linear: bool = False) -> None:
        super().__init__()
        self.tokens = tokens
        self.stem = Stem(width)
        self.first = Mixer(width, tokens)
        affine = AffineNorm(width, out, stride, tokens)
        self.middle = affine.map if linear else affine
        self.second = Mixer(out, tokens)
        self.head = nn.Linear(out, 3)
        self.extra = nn.Parameter(torch.randn(1, extra, out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        if self.tokens:
            x = x.flatten(2).transpose(1, 2)
        x = self.middle(self.first(x))
        if self.tokens:
            x = torch.cat([self.extra.expand(len(x), -1, -1), x], 1)
        x = self.second(x)
        return self.head(x.mean(1) if self.tokens else x.mean((2, 3)))
