"""A small labelled problem, for tests of pruning."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SmallNet(nn.Module):
    """Two convolutions with batch norm, a shortcut and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.shortcut = nn.Conv2d(3, 6, 1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return self.fc((out + self.shortcut(x)).relu().mean((2, 3)))


def make_loader(samples=24, batch_size=10):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(samples, 3, 5, 5, generator=generator)
    labels = torch.randint(0, 4, (samples,), generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size)


def make_net():
    torch.manual_seed(0)
    return SmallNet().eval()
