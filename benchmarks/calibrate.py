"""Calibration of ResNet-50 beside the forward passes it needs, and of ResNet-20 beside all layers' inputs at once.

    python benchmarks/calibrate.py --out calibrate.json

ResNet-50 at 224 px (random weights, statistics of noise): 64 positions of each of 64 images; what it is compared with
are three forward passes of as many images, two of the network and one of its source. ``ridge`` given: one solution a
layer; chosen: up to seven more on four fifths of the images. Memory: the most that the process takes beyond what it
had, beside what was stated before it began.

ResNet-20 at 32 px, 400 images: the reference follows the equations literally. For each layer in order it runs both
networks from the images on, keeps the layer's input, unfolds all patches and takes those at the positions that ours
draws, in float64, and solves. The difference of what both
networks give is relative. Seconds are of the processor.
"""
import copy
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from _common import parse_args, write
from torch import Tensor, nn

from mmreuse.calibration import Source, calibrate, memory
from mmreuse.calibration.images import CalibrationImages
from mmreuse.models.backbones import CifarResNet

POSITIONS = 64


def settled(network: nn.Module, images: Tensor) -> nn.Module:
    """Give batch norms the statistics of images."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def disturbed(network: nn.Module) -> nn.Module:
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for module in twin.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(1 + 0.2 * torch.randn(len(module.weight), 1, 1, 1))
    return twin


def seconds(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def resident() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


def large(ridge: float | None, count: int = 64) -> dict[str, Any]:
    torch.manual_seed(0)
    images = torch.randn(count, 3, 224, 224)
    source = settled(torchvision.models.resnet50(), images[:16])
    network, stated = disturbed(source), []
    check, memory.require_memory = memory.require_memory, lambda needed, *rest: stated.append(needed)
    start = resident()
    ours = seconds(lambda: calibrate(network, [Source(source)], images, ridge=ridge, positions=POSITIONS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - start
    memory.require_memory = check
    with torch.no_grad():
        forward = seconds(lambda: [source(batch) for _ in range(3) for batch in images.split(32)])
    return dict(reference_s=forward, ours_s=ours, ratio=forward / ours, images=count,
                peak_gib=peak / 2**30, stated_gib=stated[0] / 2**30)


@torch.no_grad()
def literal(network: nn.Module, source: nn.Module, images: Tensor, ridge: float) -> None:
    """One layer at a time from the images on, everything at once."""
    drawn = CalibrationImages(images, network, None, 0)
    modules = dict(network.named_modules())
    order = [name for name, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)]
    norms = dict(zip([name for name in order if isinstance(modules[name], nn.Conv2d)],
                     [module for module in modules.values() if isinstance(module, nn.BatchNorm2d)], strict=True))
    for name in order:
        layer = modules[name]
        x, t = (_seen(each, name, images, at) for each, at in ((network, 0), (source, 1)))
        x, t = (_rows(layer, each, drawn, inputs) for each, inputs in ((x, True), (t, False)))
        weight = layer.weight.flatten(1).double()
        mean_x, mean_t = x.mean(0), t.mean(0)
        x, t = x - mean_x, t - mean_t
        gram = x.T @ x
        level = ridge * gram.diagonal().mean()
        solved = torch.linalg.solve(gram + level * torch.eye(len(gram)), t.T @ x + level * weight, left=False)
        layer.weight.copy_(solved.reshape(layer.weight.shape))
        bias = mean_t - solved @ mean_x
        if layer.bias is None:
            norms[name].running_mean -= bias
        else:
            layer.bias.copy_(bias)


def _seen(network: nn.Module, name: str, images: Tensor, what: int) -> Tensor:
    """Input (0) or output (1) of a layer."""
    found: list[Tensor] = []
    handle = network.get_submodule(name).register_forward_hook(
        lambda _, inputs, output: found.append((inputs[0], output)[what].clone()))
    network(images)
    handle.remove()
    return found[0].double()


def _rows(layer: nn.Module, x: Tensor, drawn: CalibrationImages, inputs: bool) -> Tensor:
    if isinstance(layer, nn.Linear):
        return x
    if inputs:
        x = nn.functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    x = x.flatten(2).mT
    chosen = [drawn.draw(number, len(batch), x.shape[1], POSITIONS) for number, batch in enumerate(drawn.batches)]
    if chosen[0] is not None:
        x = x[torch.arange(len(x))[:, None], torch.cat(chosen)]
    return x.flatten(0, 1)


def small(count: int = 400) -> dict[str, Any]:
    torch.manual_seed(0)
    images = torch.randn(count, 3, 32, 32)
    source = settled(CifarResNet(20, num_classes=10), images)
    network = disturbed(source)
    other = copy.deepcopy(network)
    ours = seconds(lambda: calibrate(network, [Source(source)], images, ridge=0.01, positions=POSITIONS))
    reference = seconds(lambda: literal(other, source, images, 0.01))
    with torch.no_grad():
        one, two = network(images), other(images)
    difference = float((one - two).norm() / two.norm())
    return dict(reference_s=reference, ours_s=ours, ratio=reference / ours, images=count, difference=difference)


def main() -> None:
    """Measure."""
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    write(args.out, {'ResNet-50 at 224 px, ridge given': large(0.01), 'the same, ridge chosen': large(None),
                     'ResNet-20 at 32 px': small()})


if __name__ == '__main__':
    main()
