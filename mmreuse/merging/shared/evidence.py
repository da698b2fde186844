"""Evidence that mergers weigh networks by: second moments of layer inputs, diagonal Fisher information."""
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.func import functional_call

from mmreuse.calibration.kinds import fitted
from mmreuse.calibration.layers import Fitted
from mmreuse.statistics import device_of, image_batches, logits_of
from mmreuse.utils.modes import evaluating

#: Positions of each image that Grams are taken over: neighbours tell little new.
_POSITIONS = 64


@torch.no_grad()
def input_grams(model: nn.Module, loader: Iterable, names: Sequence[str], *, seed: int = 0) -> dict[str, Tensor]:
    """Return mean products of the inputs of layers, patches of convolutions, over images and positions.

    Args:
        model: A network.
        loader: Batches of images.
        names: Of the layers' weights.
        seed: Of the positions.

    Returns:
        dict[str, Tensor]: (groups, in, in) by name of the weight, in float64; without layers that did not run, or
        whose inputs cannot be taken, see :func:`mmreuse.calibration.kinds.fitted`.

    Raises:
        DataError: The loader is empty.
    """
    grams: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: int, total: int) -> Tensor | None:
        return None if total <= _POSITIONS else \
            torch.rand(rows, total, generator=generator).topk(_POSITIONS).indices.to(device_of(model))

    def watch(name: str, layer: nn.Module, problem: Fitted) -> torch.utils.hooks.RemovableHandle:
        shape = problem.groups, problem.inputs, problem.inputs
        grams[name], counts[name] = torch.zeros(shape, dtype=torch.float64), torch.zeros((), dtype=torch.float64)

        def take(_: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
            rows = problem.rows(problem.read(args, kwargs), output, draw).flatten(0, 1).transpose(0, 1)
            grams[name] += (rows.mT @ rows).double().cpu()
            counts[name] += rows.shape[1]

        return layer.register_forward_hook(take, with_kwargs=True)

    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for name in names:
            path, _, kind = name.rpartition('.')
            problem = fitted(path, model.get_submodule(path))
            if kind == 'weight' and not isinstance(problem, str):
                stack.callback(watch(name, model.get_submodule(path), problem[path]).remove)
        for (images,) in image_batches(loader, [model], description='inputs of layers'):
            model(images)
    for tensor in (*grams.values(), *counts.values()):
        all_reduce(tensor)
    return {name: gram / counts[name] for name, gram in grams.items() if counts[name]}


def diagonal_fisher(model: nn.Module, loader: Iterable, names: Sequence[str], *, seed: int = 0) -> dict[str, Tensor]:
    """Return the diagonal of a classifier's Fisher information, ``E_x E_y (d log p(y | x) / d theta)^2``.

    No labels are needed: y is drawn from what the network itself predicts, once for each image. Images go through the
    network one by one, since squares of single gradients are summed.

    Args:
        model: From images to scores, or to what holds them, see :func:`mmreuse.statistics.data.logits_of`.
        loader: Batches of images.
        names: Of the parameters.
        seed: Of the labels that are drawn.

    Returns:
        dict[str, Tensor]: By name, in float64.

    Raises:
        DataError: The loader is empty, or the network gives no scores.
    """
    parameters = {name: model.get_parameter(name).detach().requires_grad_() for name in names}
    found = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in parameters.items()}
    count = torch.zeros((), dtype=torch.float64, device=device_of(model))
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model), torch.enable_grad():
        for (images,) in image_batches(loader, [model], description='Fisher information'):
            for image in images.split(1):
                scores = logits_of(functional_call(model, parameters, (image,)))[0].log_softmax(-1)
                label = int(torch.multinomial(scores.detach().exp().float().cpu(), 1, generator=generator))
                gradients = torch.autograd.grad(scores[label], list(parameters.values()), materialize_grads=True,
                                                allow_unused=True)
                for total, gradient in zip(found.values(), gradients, strict=True):
                    total += gradient.double().square()
            count += len(images)
    for tensor in (*found.values(), count):
        all_reduce(tensor)
    return {name: total / count for name, total in found.items()}
