"""Networks and matchings of which the merge is known."""
import copy
from collections.abc import Callable

import timm
import torch
import torchvision
from torch import Tensor, nn

from mmreuse.graph import Assign, TracedModel, trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.merging import Matching


class Block(nn.Module):
    """Two convolutions with batch norm around which the input is added, or what a third makes of it."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(True)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, three stages of one block, and a classifier."""

    def __init__(self, width: int = 4, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(True)
        self.layer1 = nn.Sequential(Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.pool(self.layer3(self.layer2(self.layer1(x)))).flatten(1))


def vgg() -> nn.Module:
    """With batch norm, and a classifier that reads 7 x 7 positions; 4096 hidden features would be many for a test."""
    model = torchvision.models.VGG(nn.Sequential(nn.Flatten()), num_classes=5, init_weights=False)
    model.features = torchvision.models.vgg.make_layers([4, 'M', 6, 'M', 8, 'M'], batch_norm=True)
    model.classifier = nn.Sequential(nn.Linear(8 * 49, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 5))
    return model


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    'resnet': (ResNet, 16),
    'vgg': (vgg, 16),
    'densenet': (lambda: torchvision.models.DenseNet(4, (2, 2), 6, num_classes=5), 32),
    'mobilenet': (lambda: torchvision.models.MobileNetV2(5, inverted_residual_setting=[
        [1, 4, 1, 1], [3, 8, 2, 2], [3, 16, 2, 1]], width_mult=0.25), 32),
    'efficientnet': (lambda: timm.create_model('test_efficientnet', num_classes=5), 32),
    'convnext': (lambda: timm.create_model('test_convnext', num_classes=5), 32),
    'vit': (lambda: timm.models.VisionTransformer(
        depth=2, embed_dim=24, num_heads=3, img_size=32, patch_size=16, num_classes=5), 32),
    'swin': (lambda: timm.models.SwinTransformer(
        depths=(2, 2), embed_dim=12, num_heads=(2, 4), img_size=32, window_size=4, num_classes=5), 32),
    'mixer': (lambda: timm.models.MlpMixer(
        num_blocks=2, embed_dim=24, img_size=32, patch_size=8, num_classes=5), 32),
}


def images(number: int = 2, size: int = 16) -> Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(9))


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give vectors and constant matrices values of their own: nothing cancels by the symmetry of an initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and (tensor.dim() < 2 or bool((tensor == tensor.flatten()[0]).all())):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model.eval()


def permuted_clones(model: nn.Module, inputs: Tensor, clones: int = 1) -> tuple[list[TracedModel], dict[str, Matching]]:
    """A model and clones with all spaces permuted at random, and the matchings that say how."""
    graphs = [trace(model, inputs)]
    index = {name: [torch.arange(space.size)] for name, space in graphs[0].spaces.items()}
    for seed in range(clones):
        permutations = random_permutations(graphs[0].spaces, seed)
        graphs.append(trace(transform(graphs[0], permutations), inputs))
        for name, permutation in permutations.items():
            index[name].append(permutation.index)
    return graphs, {name: joined(each) for name, each in index.items()}


def joined(index: list[Tensor], size: int | None = None) -> Matching:
    """Features of each model that go to the same place become their mean."""
    size = max(int(each.max()) for each in index) + 1 if size is None else size
    return Matching(Assign(torch.cat(index), size), tuple(len(each) for each in index), 1.)


def in_order(graphs: list[TracedModel]) -> dict[str, Matching]:
    """Plain averages."""
    return {name: joined([torch.arange(graph.spaces[name].size) for graph in graphs]) for name in graphs[0].spaces}


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What a model returns, one tensor or several; the input is left as it is."""
    with torch.no_grad():
        found = model(x.clone())
    return list(found) if isinstance(found, tuple) else [found]


def same(model: nn.Module, reference: nn.Module, x: Tensor, tolerance: float = 1e-5) -> None:
    """Assert that each output of a model is that of another, relative to its scale."""
    expected, = outputs(reference, x)
    for found in outputs(model, x):
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def independent(model: nn.Module, seed: int) -> nn.Module:
    """The same architecture with other random weights."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() > 1:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor[0].numel() ** -0.5)
    return randomised(other, seed)
