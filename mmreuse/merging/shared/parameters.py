"""Parameters of several networks as what mergers take: rows of all numbers, or one matrix per layer."""
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmreuse.errors import SpaceError
from mmreuse.registry import Method

Named = Mapping[str, Tensor]
#: (groups, out, in) of a weight seen as matrices.
Shape = tuple[int, int, int]


def needs_base(method: Method) -> bool:
    """Return whether a merger gives a task vector, to be scaled and added to a base, and not the weights themselves."""
    return bool({'task_vectors', 'task_matrices'} & set(method.needs))


def takes_matrices(method: Method) -> bool:
    """Return whether a merger sees one layer at a time."""
    return bool({'matrices', 'task_matrices'} & set(method.needs))


def shared_parameters(names: Sequence[str], models: Sequence[nn.Module], base: nn.Module | None) -> tuple[
        list[dict[str, Tensor]], dict[str, Tensor] | None]:
    """Return the parameters of such names of each network, and of the base, in float64.

    Raises:
        SpaceError: The base lacks one, or has it in another shape.
    """
    found = []
    for model in (*models, *([] if base is None else [base])):
        own = dict(model.named_parameters(remove_duplicate=False))
        for name in names:
            shape = tuple(own[name].shape) if name in own else 'absent'
            if shape != tuple(expected := models[0].get_parameter(name).shape):
                raise SpaceError(f"'{name}' is {shape} in the base and {tuple(expected)} in the networks: they were "
                                 'not fine-tuned from it. Give the base that they share, with the same modules.')
        found.append({name: own[name].detach().double() for name in names})
    return (found, None) if base is None else (found[:-1], found[-1])


def matrix_shapes(model: nn.Module, names: Sequence[str]) -> dict[str, Shape]:
    """Return the parameters that are matrices: weights of linear layers, convolutions and attention.

    Kernel positions count among the inputs of a convolution, whose groups are matrices of their own; so are the three
    that attention keeps in one tensor.
    """
    shapes: dict[str, Shape] = {}
    for path, module in model.named_modules():
        weight = module._parameters.get('weight')
        if weight is not None and (isinstance(module, nn.Linear) or isinstance(module, _ConvNd) and
                                   not module.transposed):
            groups = getattr(module, 'groups', 1)
            shapes[f'{path}.weight'.lstrip('.')] = groups, len(weight) // groups, weight[0].numel()
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            shapes[f'{path}.in_proj_weight'.lstrip('.')] = 3, module.embed_dim, module.embed_dim
    return {name: shapes[name] for name in names if name in shapes}


def merge_parameters(method: Method, networks: Sequence[Named], base: Named | None, shapes: Mapping[str, Shape],
                     grams: Sequence[Named] = (), fisher: Sequence[Named] = ()) -> dict[str, Tensor]:
    """Run a merger on the parameters of networks.

    Mergers of matrices see those; what is no matrix, or a matrix of which nothing is known that the merger weighs by,
    is averaged.

    Args:
        method: Of :data:`mmreuse.registry.MERGERS`.
        networks: Parameters of each, by name.
        base: Those of the base, if the merger needs one.
        shapes: See :func:`matrix_shapes`.
        grams: Of each network, by name of the weight, (groups, in, in), if the merger needs them.
        fisher: Of each network, by name of the parameter, if the merger needs it.

    Returns:
        dict[str, Tensor]: Merged parameters, or their task vector, by name.
    """
    own = [{name: tensor - base[name] for name, tensor in each.items()} for each in networks] if needs_base(method) \
        else networks
    if not takes_matrices(method):
        rows = _rows(own)
        given = dict(weights=rows, task_vectors=rows, fisher=_rows(fisher) if fisher else None)
        return _apart(method(**method.accepted(given)), networks[0])

    def merged(name: str) -> Tensor:
        tensors = torch.stack([each[name] for each in own])
        if name not in shapes or ('grams' in method.needs and name not in grams[0]):
            return tensors.mean(0)
        matrices = tensors.reshape(len(own), *shapes[name])
        weighed = torch.stack([each[name] for each in grams]) if 'grams' in method.needs else None
        given = dict(matrices=matrices, task_matrices=matrices, grams=weighed)
        return method(**method.accepted(given)).reshape(tensors.shape[1:])

    return {name: merged(name) for name in networks[0]}


def _rows(networks: Sequence[Named]) -> Tensor:
    return torch.stack([torch.cat([tensor.flatten() for tensor in each.values()]) for each in networks])


def _apart(row: Tensor, like: Named) -> dict[str, Tensor]:
    parts = row.split([tensor.numel() for tensor in like.values()])
    return {name: part.reshape(tensor.shape) for part, (name, tensor) in zip(parts, like.items(), strict=True)}


def drift(networks: Sequence[Named], base: Named | None, shapes: Mapping[str, Shape]) -> dict[str, list[float]]:
    """Return how far networks are from where they began, over their matrices.

    Returns:
        dict[str, list[float]]: For each network its ``distance`` ``||W_t - W_0|| / ||W_0||`` and its ``cosine`` with
        the base, or with the first network where there is none; and ``between``, the cosines of all pairs of task
        vectors.
    """
    rows = _rows([{name: each[name] for name in shapes} for each in networks])
    start = rows[0] if base is None else torch.cat([base[name].flatten() for name in shapes])
    tasks = rows - start
    pairs = [_cosine(tasks[one], tasks[other]) for one in range(len(tasks)) for other in range(one)]
    return dict(distance=[float(each.norm() / start.norm()) for each in tasks],
                cosine=[_cosine(each, start) for each in rows], between=pairs if base is not None else [])


def _cosine(one: Tensor, other: Tensor) -> float:
    norms = float(one.norm() * other.norm())
    return float(one @ other) / norms if norms > 0 else math.nan
