"""Sizes that PyTorch's layers keep beside their parameters."""
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from mmreuse.graph.blockmaps import PlacedMap


def adjust_attributes(model: nn.Module, resized: dict[str, PlacedMap], groups: dict[str, int]) -> None:
    """Bring attributes of layers in line with their parameters, and numbers of heads and groups with the blocks.

    Args:
        model: Changed in place.
        resized: Spaces that have another size than before.
        groups: Number of groups of grouped convolutions, by module.
    """
    for name, module in model.named_modules():
        _adjust_layer(module, groups.get(name))
    for item in resized.values():
        touched = [axis.tensor.rpartition('.')[0] for axis in item.space.axes]
        if item.space.blocks is not None and item.space.block_space in resized:
            for name in touched:
                _adjust_blocks(model, name, resized[item.space.block_space])


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


def _adjust_blocks(model: nn.Module, name: str, blocks: PlacedMap) -> None:
    """Change ``num_heads``, ``num_groups`` or ``groups`` where it counted the blocks, in the layer or around it."""
    for path in (name, name.rpartition('.')[0]):
        module = model.get_submodule(path)
        for attribute in ('num_heads', 'num_groups'):
            if getattr(module, attribute, None) == blocks.space.size:
                setattr(module, attribute, blocks.size)
