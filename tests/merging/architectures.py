"""Tiny networks of real architectures, and clones of them whose spaces are permuted at random."""
from collections.abc import Mapping

import torch
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.resnet import Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mmreuse.graph import Permute, TracedModel, trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.merging.matching.matching import Matching

INPUT = torch.zeros(1, 3, 32, 32)


def vit(num_heads: int = 3, depth: int = 2) -> nn.Module:
    return VisionTransformer(img_size=32, patch_size=16, embed_dim=24, depth=depth, num_heads=num_heads,
                             num_classes=5)


def swin() -> nn.Module:
    return SwinTransformer(img_size=32, patch_size=2, window_size=4, embed_dim=16, depths=(1, 1), num_heads=(2, 4),
                           num_classes=5)


def resnext() -> nn.Module:
    return ResNet(Bottleneck, [1, 1, 1, 1], channels=(8, 8, 16, 16), stem_width=8, cardinality=4, base_width=16,
                  num_classes=5)


def regnet() -> nn.Module:
    config = RegNetCfg(depth=4, w0=16, wa=12., wm=1.5, group_size=8, se_ratio=0.25, stem_width=16)
    return RegNet(config, num_classes=5)


class Plain(nn.Module):
    """Two hidden layers and a residual one between them."""

    def __init__(self, width: int = 12, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(),
                                   nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width))
        self.last = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2), nn.BatchNorm2d(2 * width), nn.ReLU())
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(x + self.inner(x)).mean((2, 3)))


def graph_of(make=Plain, seed: int = 0, **options) -> TracedModel:
    """A traced network of which no two features are alike and none is dead."""
    torch.manual_seed(seed)
    model = make(**options)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() == 1:
                tensor.copy_(torch.rand_like(tensor) + (.5 if 'weight' in name else 0.))
            elif isinstance(model, (VisionTransformer, SwinTransformer)):
                tensor.mul_(5)  # from where initialisation leaves each layer next to no say in the output
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.
        model.train()(batches(1)[0])
    return trace(model.eval(), INPUT)


def permuted(graph: TracedModel, seed: int) -> tuple[TracedModel, dict[str, Permute]]:
    """The same function with all spaces permuted at random, and how."""
    planted = random_permutations(graph.spaces, seed)
    return trace(transform(graph, planted).eval(), INPUT), planted


def batches(count: int = 2, size: int = 16) -> list[Tensor]:
    return list(torch.randn(count, size, 3, 32, 32, generator=torch.Generator().manual_seed(7)))


def places(matching: Matching, model: int) -> Tensor:
    """The member of a model at each merged place, where the map is one to one."""
    return matching.per_model()[model].index.argsort()


def assert_planted(matchings: Mapping[str, Matching], planted: Mapping[str, Permute], model: int = 1) -> None:
    """Every space of the clone was put back."""
    wrong = {name: int((matching.per_model()[model].index != planted[name].index).sum())
             for name, matching in matchings.items()}
    assert set(matchings) == set(planted) and not any(wrong.values()), wrong


def assert_same_function(graph: TracedModel, clone: TracedModel, matchings: Mapping[str, Matching]) -> None:
    """The clone with its spaces in the merged order has the weights of the original."""
    back = transform(clone, {name: Permute(places(matching, 1)) for name, matching in matchings.items()}).eval()
    images = batches(1)[0]
    with torch.no_grad():
        expected, output = graph.model(images), back(images)
    assert expected.std(0).max() > 1e-3  # the function says something of its input
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    for key, value in graph.model.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], value, msg=key)
