"""Networks and images with numbers that break arithmetic, in every job and with every method that it can be given."""
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import Case
from torch import Tensor, nn
from workspace import Workspace

from mmreuse import create
from mmreuse.engine.jobs import find_job
from mmreuse.engine.jobs.job import check_count, check_weights
from mmreuse.registry import JOBS, MATCHERS, MERGERS, RENORMALIZERS, SALIENCIES

_CLASSES = 4
_MODEL = dict(
    type='mmpretrain.ImageClassifier', backbone=dict(type='CifarResNet', depth=8, width=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=_CLASSES, in_channels=32))


def bad_numbers(workspace: Workspace, draw: random.Random, folder: Path) -> Case:
    """A job on a network or on images with numbers that break arithmetic."""
    job = draw.choice([name for name in _OPTIONS])
    options = _OPTIONS[job](draw)
    what = draw.choice(list({**_NETWORKS, **_IMAGES}))
    seed = draw.randrange(2 ** 31)
    text = ', '.join(f'{key}={value}' for key, value in options.items())
    return Case(f'{job}({text}): {what}', lambda: _do(job, options, what, seed, folder), right=True)


def _do(name: str, options: dict[str, Any], what: str, seed: int, folder: Path) -> bool:
    """Do a job, and return whether all numbers of what it makes are finite."""
    torch.manual_seed(seed)
    job = find_job(dict(type=name, **options))
    networks = [create(_MODEL) for _ in range(max(2, job.networks[0]) if job.networks[1] is None else 1)]
    images, labels = torch.randn(48, 3, 8, 8), torch.arange(48) % _CLASSES
    for network in networks:
        network.train()(images)
        network.eval()
    if what in _NETWORKS:
        with torch.no_grad():
            _NETWORKS[what](networks[0])
    size = 16
    if what in _IMAGES:
        images, labels, size = _IMAGES[what](images, labels)
    batches = list(zip(images.split(size), labels.split(size), strict=True))
    check_count(job, len(networks))
    check_weights(job, networks)
    given = dict(images=[each for each, _ in batches], labelled=batches, validation=batches, seed=0, folder=folder)
    made = job(networks, **job.accepted(given)).eval()
    with torch.no_grad():
        outputs = made(torch.randn(4, 3, 8, 8))
    numbers = [*made.state_dict().values(), outputs if isinstance(outputs, Tensor) else outputs[0]]
    return all(bool(each.isfinite().all()) for each in numbers if each.is_floating_point())


def _methods(registry: Any, *without: str) -> Callable[[random.Random], str]:
    registry.import_from_location()
    names = sorted(set(registry.module_dict) - set(without))
    return lambda draw: draw.choice(names)


_matcher, _renormalizer = _methods(MATCHERS, 'cycle'), _methods(RENORMALIZERS)
_saliency, _merger = _methods(SALIENCIES), _methods(MERGERS)
JOBS.import_from_location()
_OPTIONS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    'train': lambda draw: dict(epochs=1),
    'distill': lambda draw: dict(epochs=1),
    'merge': lambda draw: dict(matcher=_matcher(draw), heads='merge', renormalizers=[]),
    'renormalize': lambda draw: dict(renormalizers=[_renormalizer(draw)]),
    'prune': lambda draw: dict(sparsity=0.5, saliency=_saliency(draw), renormalizers=draw.choice(([], ['reset']))),
    'prune_channels': lambda draw: dict(target=0.7, renormalizers=draw.choice(([], ['reset'], ['calibrate']))),
    'modularize': lambda draw: dict(classes=[0, 1], epochs=1, ratio=0.5),
    'modularize_channels': lambda draw: dict(classes=[0, 1], target=0.6),
    'compact': lambda draw: {},
    'export': lambda draw: dict(files=['network.onnx']),
    'unite': lambda draw: dict(matcher=_matcher(draw), renormalizers=[]),
}


def _conv(network: nn.Module) -> nn.Conv2d:
    return [each for each in network.modules() if isinstance(each, nn.Conv2d)][1]


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]


def _set(tensor: Tensor, value: float) -> None:
    tensor.flatten()[0] = value
    if tensor.ndim > 1:
        tensor.view(-1)[0] = value


def _dead(network: nn.Module) -> None:
    _conv(network).weight[:2] = 0
    for norm in _norms(network):
        norm.bias[:2], norm.weight[:2] = 0, 0


def _repeated(network: nn.Module) -> None:
    for each in network.modules():
        if isinstance(each, nn.Conv2d):
            each.weight[1] = each.weight[0]


_NETWORKS: dict[str, Callable[[nn.Module], None]] = {
    'a weight is NaN': lambda network: _set(_conv(network).weight, float('nan')),
    'a weight is infinite': lambda network: _set(_conv(network).weight, float('inf')),
    'a variance is NaN': lambda network: _set(_norms(network)[1].running_var, float('nan')),
    'variances are zero': lambda network: _norms(network)[1].running_var.zero_(),
    'features are dead': _dead,
    'features are constant': lambda network: _conv(network).weight.zero_(),
    'features are the same': _repeated,
    'all weights are zero': lambda network: [each.zero_() for each in network.parameters()],
}


def _with(images: Tensor, value: float) -> Tensor:
    images = images.clone()
    images[3, 0, 2, 2] = value
    return images


_IMAGES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor, int]]] = {
    'a pixel is NaN': lambda images, labels: (_with(images, float('nan')), labels, 16),
    'a pixel is infinite': lambda images, labels: (_with(images, float('inf')), labels, 16),
    'a pixel is huge': lambda images, labels: (_with(images, 1e30), labels, 16),
    'images are constant': lambda images, labels: (torch.ones_like(images), labels, 16),
    'images are black': lambda images, labels: (torch.zeros_like(images), labels, 16),
    'one image again and again': lambda images, labels: (images[:1].expand_as(images), labels, 16),
    'a class is absent': lambda images, labels: (images[labels != 1], labels[labels != 1], 16),
    'one class only': lambda images, labels: (images, torch.zeros_like(labels), 16),
    'batches of one': lambda images, labels: (images[:6], labels[:6], 1),
    'two images': lambda images, labels: (images[:2], labels[:2], 2),
    'one image': lambda images, labels: (images[:1], labels[:1], 1),
    'no image': lambda images, labels: (images[:0], labels[:0], 1),
    'a label is none of the network': lambda images, labels: (images, labels + 3, 16),
}
