"""A mask for every weight: which of a trained network's weights a part of its task needs.

A masked layer computes with ``W * B(M)``, where ``B(m)`` is 1 for ``m > 0`` and 0 otherwise (Qi et al., *Reusing Deep
Neural Network Models through Model Re-engineering*, ICSE 2023). The weights are frozen, the masks are parameters.
Whoever reads ``layer.weight`` reads the masked weight, so that a layer's own forward, and code that takes weights from
the layer (fused attention does), see the same; the state dict keeps the weight as it was, and the mask beside it as
``<layer>.weight_mask``.
"""
from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.conv import _ConvNd

from mmreuse.errors import ConfigError
from mmreuse.utils.names import fitting

#: Tensors that are masked, by the kind of layer. Attention's output projection is a linear layer of its own.
_MASKED = {
    _ConvNd: ('weight', 'bias'),
    nn.Linear: ('weight', 'bias'),
    nn.MultiheadAttention: ('in_proj_weight', 'q_proj_weight', 'k_proj_weight', 'v_proj_weight', 'in_proj_bias'),
}


class MaskedTensor(torch.autograd.Function):
    """``tensor * B(mask)``; the gradient of a mask is that of the product by ``B``, clamped to [-1, 1].

    The clamp is that of the straight-through estimator of SeaM. A mask's own value does not enter it: what is switched
    off still learns, and can come back.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, mask: Tensor) -> Tensor:
        """Return zeros where the mask is not above zero."""
        # Many times faster on CPUs than comparing and choosing.
        return mask.sign().clamp_(min=0).to(tensor.dtype).mul_(tensor)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep references; nothing is copied."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of tensor and mask."""
        tensor, mask = ctx.saved_tensors
        own = torch.where(mask > 0, grad, 0) if ctx.needs_input_grad[0] else None
        return own, (grad.to(mask) * tensor).clamp_(-1, 1)


class MaskedLayer:
    """Base of layers with masks; a layer's class becomes a subclass of it and of what it was."""

    plain_class: type[nn.Module]
    masked: tuple[str, ...]


@cache
def _masked_class(plain: type[nn.Module]) -> type[MaskedLayer]:
    names = next(names for kind, names in _MASKED.items() if issubclass(plain, kind))
    return type(f'Masked{plain.__name__}', (MaskedLayer, plain),
                dict(plain_class=plain, masked=names, **{name: property(_reader(name)) for name in names}))


def _reader(name: str):
    def read(layer: nn.Module) -> Tensor | None:
        tensor = layer._parameters[name]
        return None if tensor is None else MaskedTensor.apply(tensor, layer._parameters[f'{name}_mask'])

    return read


def apply_masks(model: nn.Module, include: Sequence[str] | None = None, exclude: Sequence[str] = (),
                problems: int | None = None) -> list[str]:
    """Give layers masks of ones, in place, and freeze everything else.

    Convolutions, also transposed, grouped and depthwise ones, linear layers, and the projections of
    :class:`torch.nn.MultiheadAttention` can be masked; so can subclasses with a forward of their own. Norms,
    embeddings and single parameters are only frozen. Tensors that layers share share their mask.

    Args:
        model: Any network.
        include: Regular expressions; a layer is masked if the whole of its name fits one. None masks all.
        exclude: Regular expressions of layers that are only frozen.
        problems: Masks of several problems in one, (problems, \\*shape); such a network is called by
            :func:`torch.func.functional_call` with the masks of one problem, or under :func:`torch.vmap`.

    Returns:
        list[str]: Names of the masked layers.

    Raises:
        ConfigError: An expression fits nothing, nothing is left to mask, or layers have weights that cannot be masked:
            recurrent ones, or weights that are computed (parametrized, pruned by ``torch.nn.utils.prune``). The model
            is unchanged then.
    """
    layers = {name: module for name, module in model.named_modules() if _is_weighted(module)}
    if not layers:
        raise ConfigError(f'{type(model).__name__} has no layer that can be masked.')
    chosen = set(layers) if include is None else fitting(include, layers, 'layer with weights')
    chosen -= fitting(exclude, layers, 'layer with weights')
    strange = [f'{name} ({type(layers[name]).__name__})' for name in layers
               if name in chosen and not _is_maskable(layers[name])]
    if strange:
        raise ConfigError(f'these layers cannot be masked: {", ".join(strange)}. Name them in `exclude`, or make what '
                          'computes their weights permanent.')
    if not chosen:
        raise ConfigError(f'include={include} without exclude={tuple(exclude)} leaves no layer to mask.')
    model.requires_grad_(False)
    masks: dict[int, nn.Parameter] = {}
    for name in layers:
        if name in chosen:
            _mask_layer(layers[name], masks, () if problems is None else (problems,))
    return [name for name in layers if name in chosen]


def _is_weighted(module: nn.Module) -> bool:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag | nn.LayerNorm | nn.RMSNorm):
        return False
    own = any(name.startswith('weight') and parameter is not None and parameter.ndim > 1
              for name, parameter in module._parameters.items())
    return own or isinstance(module, tuple(_MASKED))


def _is_maskable(module: nn.Module) -> bool:
    known = next((names for kind, names in _MASKED.items() if isinstance(module, kind)), ())
    return bool(known) and all(name in module._parameters for name in known)


def _mask_layer(layer: nn.Module, masks: dict[int, nn.Parameter], stack: tuple[int, ...]) -> None:
    if not isinstance(layer, MaskedLayer):
        layer.__class__ = _masked_class(type(layer))
    for name in layer.masked:
        tensor = layer._parameters[name]
        if tensor is not None:
            # Float32 whatever the weight is: a step of a mask may be smaller than bfloat16 resolves.
            ones = torch.ones(*stack, *tensor.shape, dtype=torch.float32, device=tensor.device)
            layer.register_parameter(f'{name}_mask', masks.setdefault(id(tensor), nn.Parameter(ones)))


def masked_tensors(model: nn.Module, tied: bool = False) -> Iterator[tuple[str, Tensor, nn.Parameter]]:
    """Name of the mask in the state dict, unmasked tensor and mask; with ``tied`` masks that are shared repeat."""
    seen: set[int] = set()
    for prefix, layer in model.named_modules():
        for name in layer.masked if isinstance(layer, MaskedLayer) else ():
            mask = layer._parameters.get(f'{name}_mask')
            if mask is not None and (tied or id(mask) not in seen):
                seen.add(id(mask))
                yield f'{prefix}.{name}_mask'.removeprefix('.'), layer._parameters[name], mask


def mask_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the masks by name.

    Raises:
        ConfigError: There are none.
    """
    masks = {name: mask for name, _, mask in masked_tensors(model)}
    if not masks:
        raise ConfigError(f'{type(model).__name__} has no masks: call apply_masks first.')
    return masks


def problem_masks(model: nn.Module) -> list[dict[str, Tensor]]:
    """Return the masks of each problem by name, as views; one where masks are not stacked.

    Raises:
        ConfigError: There are none.
    """
    masks = mask_parameters(model)
    if not _stacked(model):
        return [{name: mask.detach() for name, mask in masks.items()}]
    return [{name: mask.detach()[number] for name, mask in masks.items()}
            for number in range(len(next(iter(masks.values()))))]


def _stacked(model: nn.Module) -> bool:
    return any(mask.ndim > tensor.ndim for _, tensor, mask in masked_tensors(model))


def mask_ratio(model: nn.Module) -> float | list[float]:
    """Share of the masked weights and biases that are kept, in [0, 1]; of each problem where there are several.

    Raises:
        ConfigError: There are no masks.
    """
    ratios = [sum(int((mask > 0).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
              for masks in problem_masks(model)]
    return ratios if _stacked(model) else ratios[0]


class _Share(torch.autograd.Function):
    """The share of kept elements; its gradient is one over their number, whatever a mask's value is."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *masks: Tensor) -> Tensor:
        ctx.masks = [(mask.shape, mask.dtype, mask.device) for mask in masks]
        ctx.total = sum(mask.numel() for mask in masks)
        return sum(torch.count_nonzero(mask > 0) for mask in masks) / ctx.total

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        # One number as a view of every mask's shape: nothing as large as the masks is made.
        return tuple((grad / ctx.total).to(device, dtype).expand(shape) for shape, dtype, device in ctx.masks)


def sparsity_loss(model: nn.Module, alpha: float) -> Tensor:
    """``alpha`` times the share of kept weights; ``alpha / N`` is its gradient for each of the N elements of masks.

    Of several problems: the sum, so that each learns as alone.

    Raises:
        ConfigError: There are no masks.
    """
    return alpha * len(problem_masks(model)) * _Share.apply(*mask_parameters(model).values())


def train_masks(model: nn.Module, mode: bool = True) -> nn.Module:
    """``model.train(mode)``, but modules with running statistics stay in evaluation mode: these are frozen as well."""
    model.train(mode)
    for module in model.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.eval()
    return model
