"""Small networks, one for every way in which channels can be tied."""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class CifarBlock(nn.Module):
    """Residual block whose shortcut subsamples and pads with zero channels (option A)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.pad = (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """ResNet of He et al. (2016) for CIFAR, with option-A shortcuts."""

    def __init__(self, blocks: int = 3, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width]
        for stage in (1, 2, 3):
            layers = [CifarBlock(widths[stage - 1] if block == 0 else widths[stage], widths[stage],
                                 2 if stage > 1 and block == 0 else 1) for block in range(blocks)]
            self.add_module(f'layer{stage}', nn.Sequential(*layers))
        self.linear = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class Flattened(nn.Module):
    """A map of 4 x 4 positions flattened into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.fc = nn.Linear(6 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).flatten(1))


class Shuffled(nn.Module):
    """Split, concat, channel shuffle, depthwise and grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.branch = nn.Conv2d(4, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, 1, 1, groups=4)
        self.before = nn.Conv2d(8, 12, 1)
        self.grouped = nn.Conv2d(12, 18, 3, 1, 1, groups=3)
        self.norm = nn.GroupNorm(3, 18)
        self.head = nn.Conv2d(18, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        y = torch.cat([left, self.depthwise(F.relu(self.branch(right)))], 1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = F.relu(self.before(y))
        return self.head(F.relu(self.norm(self.grouped(y)))).mean((2, 3))


class Gated(nn.Module):
    """Squeeze and excitation, LayerScale, a scalar gate, weight normalisation, standardised weights and ECA."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = weight_norm(nn.Conv2d(3, 8, 3, 2, 1))
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.branch = nn.Conv2d(8, 8, 3, 1, 1)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 1e-5))
        self.gate = nn.Parameter(torch.zeros(1))
        self.standard = nn.Conv2d(8, 6, 1)
        self.gain = nn.Parameter(torch.ones(6, 1, 1, 1))
        self.eca = nn.Conv1d(1, 1, 3, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = x + self.gate * self.branch(x) * self.scale + self.scale
        weight = self.standard.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True) * self.gain
        x = F.conv2d(x, weight, self.standard.bias)
        attention = self.eca(x.mean((2, 3))[:, None])[:, 0, :, None, None]
        return self.head((x * attention.sigmoid()).mean((2, 3)))


class Attention(nn.Module):
    """A transformer block: unfused heads, relative bias, optional temperature, talking heads and rotary table."""

    def __init__(self, extra: str = '', width: int = 12, heads: int = 3, tokens: int = 16) -> None:
        super().__init__()
        self.extra, self.heads = extra, heads
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, tokens + 1, width))
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.bias = nn.Parameter(torch.zeros(heads, tokens + 1, tokens + 1))
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.talk = nn.Linear(heads, heads)
        self.proj = nn.Linear(width, width)
        self.head = nn.Linear(width, 5)
        self.register_buffer('rotary', torch.linspace(0.5, 1.5, width // heads), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.position
        n, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.extra == 'rotary':
            q, k = q * self.rotary, k * self.rotary
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + self.bias
        if self.extra == 'temperature':
            logits = logits * self.temperature
        if self.extra == 'talking':
            logits = self.talk(logits.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.head((x + self.proj(y))[:, 0])


class Fused(nn.Module):
    """PyTorch's own attention and transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 4, 4)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.layer(x).mean(1))


class SplitAttention(nn.Module):
    """Two splits of the channels, weighted by a softmax over the splits (ResNeSt)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, 2, 1)
        self.fc1 = nn.Conv2d(6, 4, 1)
        self.fc2 = nn.Conv2d(4, 12, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        splits = x.reshape(len(x), 2, 6, *x.shape[2:])
        attention = self.fc2(F.relu(self.fc1(splits.sum(1).mean((2, 3), keepdim=True))))
        attention = attention.reshape(len(x), 2, 6, 1, 1).softmax(1)
        return self.head((splits * attention).sum(1).mean((2, 3)))


def image(size: int = 16) -> Tensor:
    """One image of zeros: the trace needs its shape only."""
    return torch.zeros(1, 3, size, size)
