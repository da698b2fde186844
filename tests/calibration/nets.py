"""Small networks that are calibrated."""
import timm
import torch
from torch import Tensor, nn

from mmreuse.models.backbones import CifarResNet

IMAGES = torch.randn(48, 3, 32, 32, generator=torch.Generator().manual_seed(1))
SMALL = IMAGES[:, :, 8:20, 8:20]


class Attending(nn.Module):
    """A block whose queries, keys and values are one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 8, 8)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 24), nn.Linear(24, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        tokens = tokens + self.down(self.up(self.norm(tokens)).relu())
        return self.head(tokens.mean(1))


def build(name: str) -> nn.Module:
    """A network of timm with random weights and real statistics."""
    torch.manual_seed(0)
    return _settled(timm.create_model(name, num_classes=5, **(dict(img_size=32) if 'vit' in name else {})), IMAGES)


def tiny() -> nn.Module:
    """A residual network for small images."""
    torch.manual_seed(0)
    return _settled(CifarResNet(8, width=4, shortcut='conv1x1', num_classes=5), SMALL)


def _settled(network: nn.Module, images: Tensor) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()(images)
    return network.eval()


def error(network: nn.Module, other: nn.Module, images: Tensor = IMAGES) -> float:
    """Difference of outputs, relative to the second network's."""
    with torch.no_grad():
        one, two = network(images), other(images)
    return float((one - two).norm() / two.norm())
