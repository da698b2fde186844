"""Gradients of single samples of a ResNet-20: a loop over batches of one beside batches.

    python benchmarks/per_sample_gradients.py --out per_sample_gradients.json

``reference``: as published, each gradient is appended with ``torch.cat``, which copies all that came before. ``plain``:
the same loop into a buffer that is there from the start, so that what is left is the work on single images. Ours
includes the making of all gradients from their factors. ``pass``: one forward and one backward pass of all images, in
batches, by images only, less than which no way needs. Times are of the processor, one thread, which other work on the
machine hardly changes.
"""
import functools
import statistics

import torch
import torch.nn.functional as F
from _common import compare_times, parse_args, take_turns, write
from torch import Tensor, nn

from mmreuse.models.backbones import CifarResNet
from mmreuse.pruning import listed_weights, per_sample_gradients

SAMPLES = (100, 400)


def gradient(net: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    net.zero_grad()
    F.cross_entropy(net(image[None]), label[None]).backward()
    return torch.cat([weight.grad.flatten() for weight in listed_weights(net).values()])


def growing(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    rows = torch.empty(0, sum(weight.numel() for weight in listed_weights(net).values()))
    for image, label in zip(images, labels, strict=True):
        rows = torch.cat([rows, gradient(net, image, label)[None]])
    return rows


def plain(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    rows = torch.empty(len(images), sum(weight.numel() for weight in listed_weights(net).values()))
    for row, image, label in zip(rows, images, labels, strict=True):
        row.copy_(gradient(net, image, label))
    return rows


def ours(net: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    loader = zip(images.split(100), labels.split(100), strict=True)
    found = per_sample_gradients(net, list(loader), listed_weights(net), samples=len(images))
    return [found.of(name) for name in found.shapes]


def passes(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    for part, own in zip(images.split(64), labels.split(64), strict=True):
        part.requires_grad_()
        torch.autograd.grad(F.cross_entropy(net(part), own), part)


def main() -> None:
    args = parse_args(__doc__)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net, results = CifarResNet(20, num_classes=10).eval(), {}
    for function in (ours, plain, passes):  # libraries are loaded and warm
        function(net, torch.randn(64, 3, 32, 32), torch.randint(0, 10, (64,)))
    for samples in SAMPLES:
        images, labels = torch.randn(samples, 3, 32, 32), torch.randint(0, 10, (samples,))
        expected = plain(net, images, labels)
        difference = float((torch.cat(ours(net, images, labels), 1) - expected).norm() / expected.norm())
        del expected
        times = take_turns({function.__name__: functools.partial(function, net, images, labels)
                            for function in (ours, plain, growing, passes)})
        timing = compare_times(times['growing'], times['ours'])
        plain_s = statistics.median(times['plain'])
        results[f'ResNet-20, {samples} samples'] = dict(
            timing, plain_s=plain_s, pass_s=statistics.median(times['passes']),
            plain_ratio=plain_s / timing['ours_s'], difference=difference)
        write(args.out, results)


if __name__ == '__main__':
    main()
