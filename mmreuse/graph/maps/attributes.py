"""Sizes that modules keep beside their parameters."""
import os
import re
from collections import defaultdict

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from mmreuse.graph.maps.narrow_attention import fit_attention
from mmreuse.graph.maps.resolve_maps import ResolvedMap

#: Names of numbers of heads and groups, and of what is said of each.
_COUNTS, _WIDTHS = re.compile('head|group'), re.compile('dim|size|width|channel|feature|per_')
#: Whose widths are those of their parameters.
_LAYERS = (_ConvNd, nn.Linear, _NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.PReLU, nn.Embedding,
           nn.MultiheadAttention)


def adjust_attributes(model: nn.Module, resized: dict[str, ResolvedMap], groups: dict[str, int],
                      widths: bool = True) -> bool:
    """Bring attributes of layers in line with their parameters, and numbers that modules keep with the blocks.

    Numbers of heads and groups are known by name and value. What else follows from them (``attn_dim``, ``embed_dims``)
    is known by value alone: an integer of the module around the layers that is the width of all blocks together.

    Args:
        model: Changed in place.
        resized: Spaces that have another size than before.
        groups: Number of groups of grouped convolutions, by module.
        widths: Whether to change what is known by value alone.

    Returns:
        bool: Whether anything was changed that is known by value alone.
    """
    for name, module in model.named_modules():
        _adjust_layer(module, groups.get(name))
        fit_attention(module)
    _adjust_bare_norms(model, resized)
    around: dict[str, dict[int, tuple[int, bool]]] = defaultdict(dict)
    for blocks in resized.values():
        inner = [item for item in resized.values() if item.space.block_space == blocks.space.name]
        for name in _around([axis.tensor.split('.')[:-1] for item in inner for axis in item.space.axes]):
            around[name].update({item.space.size: (item.size, False) for item in inner})
            around[name][blocks.space.size] = blocks.size, True
    return any([_adjust_blocks(model.get_submodule(name), sizes, widths) for name, sizes in around.items()])


def _around(layers: list[list[str]]) -> set[str]:
    """Return the names of some layers, of what is around each, and so on up to what is around all of them."""
    common = len(os.path.commonprefix(layers))
    return {'.'.join(path[:length]) for path in layers for length in range(min(common, len(path) - 1), len(path) + 1)
            if length >= 0}


def _adjust_layer(module: nn.Module, groups: int | None) -> None:
    weight = module._parameters.get('weight')
    if isinstance(module, _ConvNd) and weight is not None:
        _adjust_convolution(module, groups)
    elif isinstance(module, nn.Linear) and weight is not None:
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, _NormBase):
        vector = weight if weight is not None else module._buffers.get('running_mean')
        if vector is not None:
            module.num_features = len(vector)
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and weight is not None:
        module.normalized_shape = tuple(weight.shape)
    elif isinstance(module, nn.GroupNorm) and weight is not None:
        if module.num_groups == module.num_channels:
            module.num_groups = len(weight)
        module.num_channels = len(weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape


def _adjust_bare_norms(model: nn.Module, resized: dict[str, ResolvedMap]) -> None:
    """Tell norms without parameters the width of the space that is seen at them."""
    for item in resized.values():
        for tap in item.space.taps:
            module = model.get_submodule(tap.module)
            if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and module.weight is None and (
                    tuple(module.normalized_shape) == (item.space.size,)):
                module.normalized_shape = (item.size,)


def _adjust_convolution(module: _ConvNd, groups: int | None) -> None:
    first, second = module.weight.shape[:2]
    if groups is not None:
        module.groups = groups
    elif module.groups > 1 and module.groups == module.in_channels:  # one input channel a group
        module.groups = first if module.transposed else first * module.in_channels // module.out_channels
    if module.transposed:
        module.in_channels, module.out_channels = first, second * module.groups
    else:
        module.in_channels, module.out_channels = second * module.groups, first


def _adjust_blocks(module: nn.Module, sizes: dict[int, tuple[int, bool]], widths: bool) -> bool:
    """Change numbers that counted blocks, or were the width of all; whether there were such widths.

    Args:
        module: Of the layers, or around them.
        sizes: By old size: the new one, and whether it counts blocks.
        widths: Whether to change widths.
    """
    changed = False
    for name, value in list(vars(module).items()):
        new, counts = sizes.get(value, (value, True)) if type(value) is int else (value, True)
        if counts and _COUNTS.search(name) and not _WIDTHS.search(name):
            setattr(module, name, new)
        elif not counts and widths and not isinstance(module, _LAYERS):
            setattr(module, name, new)
            changed = True
    return changed
