"""A training step of masks beside a training step of the weights, same network, same batch, Adam for both.

    python benchmarks/masked_step.py --out masked_step.json

``reference``: a plain step (forward, backward, update). ``ours``: the same with masks of all weights, frozen weights
and a sparsity term. ``concatenated``: as published, the sparsity term from the concatenation of all binary masks.
``head_only``: a step of the published epochs that train only the head. Times are of the processor, one thread, medians
of steps that take turns.
"""
import copy
import statistics
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
import torchvision
from _common import compare_times, parse_args, take_turns, write
from torch import Tensor, nn

from mmreuse.models.backbones import CifarResNet
from mmreuse.modularization import apply_masks, mask_parameters, sparsity_loss, train_masks

CASES = {'ResNet-20, 128 x 32 px': (lambda: CifarResNet(20, num_classes=10), (128, 3, 32, 32), 15),
         'ResNet-18, 8 x 112 px': (lambda: torchvision.models.resnet18(num_classes=10), (8, 3, 112, 112), 25)}


class Binarize(torch.autograd.Function):
    """The published straight-through estimator, for the published sparsity term."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, mask: Tensor) -> Tensor:
        return (mask > 0).float()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return grad.clamp(-1, 1)


def concatenated(model: nn.Module) -> Tensor:
    return torch.cat([Binarize.apply(mask).flatten() for mask in mask_parameters(model).values()]).mean()


def stepper(model: nn.Module, parameters: Iterable[Tensor], images: Tensor, labels: Tensor,
            penalty: Callable[[nn.Module], Tensor] | None = None) -> Callable[[], None]:
    optimizer = torch.optim.Adam(parameters, lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        (loss if penalty is None else loss + penalty(model)).backward()
        optimizer.step()

    return step


def head_only(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    for mask in mask_parameters(model).values():
        mask.requires_grad_(False)
    net = nn.Sequential(model, nn.ReLU(), nn.Linear(10, 10))
    return stepper(net, net[2].parameters(), images, labels)


def main() -> None:
    args = parse_args(__doc__)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    results = {}
    for case, (make, shape, repeats) in CASES.items():
        images, labels = torch.randn(shape), torch.randint(10, shape[:1])
        plain = make().train()
        masked = copy.deepcopy(plain)
        apply_masks(masked)
        twin, still = copy.deepcopy(masked), copy.deepcopy(masked)
        for model in (masked, twin, still):
            train_masks(model)
        steps = dict(
            reference=stepper(plain, plain.parameters(), images, labels),
            ours=stepper(masked, mask_parameters(masked).values(), images, labels, lambda net: sparsity_loss(net, 1.)),
            concatenated=stepper(twin, mask_parameters(twin).values(), images, labels, concatenated),
            head_only=head_only(still, images, labels))
        times = {name: own[1:] for name, own in take_turns(steps, repeats).items()}  # the first turn warms up
        seconds = {f'{name}_s': statistics.median(own) for name, own in times.items()}
        results[case] = seconds | compare_times(times['reference'], times['ours']) | dict(
            overhead=seconds['ours_s'] / seconds['reference_s'])
        write(args.out, results)


if __name__ == '__main__':
    main()
