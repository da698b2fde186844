"""Fill the common part of a merged network by a merger, with the coefficients under which it agrees most."""
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.graph import refresh
from mmreuse.merging.merged_model import MergedModel, recipe_of
from mmreuse.merging.shared.agreement import TaskImages
from mmreuse.merging.shared.evidence import diagonal_fisher, input_grams
from mmreuse.merging.shared.parameters import (
    Named,
    Shape,
    drift,
    matrix_shapes,
    merge_parameters,
    needs_base,
    shared_parameters,
)
from mmreuse.registry import MERGERS, Method
from mmreuse.statistics import batches
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.cost.memory import require_memory

logger = logging.getLogger(__name__)

#: Tried where no scale is given.
SCALES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1., 1.25, 1.6, 2.)
#: Networks whose cosine with their start is smaller have none in common: those of other random weights are near 0.
LEAST_COSINE = 0.5

Scale = float | Sequence[float] | None
#: One merger, or several to choose from.
Mergers = MethodLike | Sequence[MethodLike]


def find_variants(mergers: Mergers, base: Any, scale: Scale, measured: bool) -> list[tuple[Method, float | None]]:
    """Return what is tried: each merger with each scale of its task vector.

    Args:
        mergers: Name, config or function of :data:`mmreuse.registry.MERGERS`, or a list of them.
        base: None if there is none.
        scale: One, several to try, or None for :data:`SCALES`.
        measured: Whether there are images to choose on.

    Returns:
        list[tuple[Method, float | None]]: The scale is None of mergers that give weights.

    Raises:
        ConfigError: There is no such merger or option; base or images are missing, or what is given is not used.
    """
    scales = SCALES if scale is None else [scale] if isinstance(scale, int | float) else scale
    variants: list[tuple[Method, float | None]] = []
    for each in mergers if isinstance(mergers, list | tuple) else [mergers]:
        method = find_method(MERGERS, each)
        if needs_base(method) and base is None:
            raise ConfigError(f"merger '{method.name}' merges what networks have learnt since they parted: give the "
                              "base that they were fine-tuned from. 'average', 'fisher' and 'regmean' go without.")
        if {'grams', 'fisher'} & set(method.needs) and not measured:
            raise ConfigError(f"merger '{method.name}' measures networks: give images, or take another merger.")
        variants += [(method, factor) for factor in (scales if needs_base(method) else [None])]
    if scale is not None and all(factor is None for _, factor in variants):
        raise ConfigError(f'scale={scale} is of task vectors, and {_names(variants)} gives weights: leave it out.')
    if len(variants) != 1 and not measured:
        raise ConfigError(f'{len(variants)} variants of {_names(variants)} to choose from, and no images to choose on: '
                          'give images, or one merger and one scale.')
    return variants


def _names(variants: Sequence[tuple[Method, Any]]) -> str:
    return ', '.join(dict.fromkeys(f"merger '{method.name}'" for method, _ in variants))


def merge_shared(merged: MergedModel, models: Sequence[nn.Module], merger: Mergers, base: nn.Module | None = None, *,
                 scale: Scale = None, images: TaskImages | None = None,
                 settle: Callable[[Sequence[Tensor]], object] | None = None) -> dict[str, Any]:
    """Merge networks that were fine-tuned from one base, in place of the plain average of their common part.

    Of the mergers and scales that are tried those are kept under which the merged network decides most often as the
    networks do, on unlabelled images held out for it.

    Args:
        merged: The average of the networks, feature by feature. Its trunk is overwritten; running statistics of batch
            norms stay averages.
        models: The networks.
        merger: One or several, see :func:`find_variants`.
        base: What the networks were fine-tuned from; its head may differ.
        scale: Of the task vector, see :func:`find_variants`.
        images: Of the tasks; None where nothing is measured or chosen.
        settle: Called with batches of images before agreement is measured, to take batch norms' statistics anew.

    Returns:
        dict[str, Any]: ``type``, ``options``, ``scale``, ``agreement`` and ``divergence`` of what was kept; ``tried``,
        the same for all; ``start``, see :func:`~mmreuse.merging.shared.parameters.drift`. It also stands in the
        network's recipe.

    Raises:
        ConfigError: As :func:`find_variants`, or memory is short.
        SpaceError: The base is of another structure.
        DataError: A network gives no scores.
    """
    variants = find_variants(merger, base, scale, images is not None)
    trunk = dict(merged.trunk.named_parameters())
    known = dict(models[0].named_parameters())
    names = [name for name, tensor in trunk.items() if name in known and tensor.is_floating_point()]
    shapes = matrix_shapes(models[0], names)
    # Weights and their task vectors, and what is computed of them.
    require_memory(8 * 4 * (len(models) + 1) * sum(trunk[name].numel() for name in names), 'merging',
                   'Give fewer networks.')
    networks, origin = shared_parameters(names, models, base)
    start = _checked_start(drift(networks, origin, shapes))
    evidence = _evidence({need for method, _ in variants for need in method.needs}, models, names, list(shapes), images)
    before = {key: tensor.clone() for key, tensor in merged.state_dict().items()}
    tried, best = [], None
    for method, factor, found in _merges(variants, networks, origin, shapes, evidence):
        _fill(merged, trunk, found)
        if images is not None and settle is not None:
            settle(images.mixture())
        agreement = None if images is None else images.agreement(merged)
        tried.append(dict(type=method.name, options=dict(method.options), scale=factor, **(
            {} if agreement is None else dict(agreement=agreement.share, divergence=agreement.divergence))))
        if best is None or agreement > best[0]:
            best = agreement, found, tried[-1]
    merged.load_state_dict(before)
    _fill(merged, trunk, best[1])
    report = dict(**best[2], tried=tried, start=start)
    logger.info('merged by %s, of %d tried', best[2], len(tried))
    merged.describe({**recipe_of({'recipe': merged.recipe}), 'merger': report})
    return report


def _merges(variants: Sequence[tuple[Method, float | None]], networks: Sequence[Named], base: Named | None,
            shapes: Mapping[str, Shape], evidence: Mapping[str, Any]) -> Iterator[
                tuple[Method, float | None, dict[str, Tensor]]]:
    """Yield the merged parameters of each merger and scale."""
    for method, group in itertools.groupby(variants, key=itemgetter(0)):
        found = merge_parameters(method, networks, base, shapes, **evidence)
        for _, factor in group:
            yield method, factor, found if factor is None else {
                name: base[name] + factor * vector for name, vector in found.items()}


@torch.no_grad()
def _fill(merged: MergedModel, trunk: Named, found: Named) -> None:
    for name, tensor in found.items():
        trunk[name].copy_(tensor)
    refresh(merged.trunk)


def _evidence(needs: set[str], models: Sequence[nn.Module], names: Sequence[str], matrices: Sequence[str],
              images: TaskImages | None) -> dict[str, Any]:
    """Measure what mergers weigh networks by."""
    found: dict[str, Any] = {}
    if 'grams' in needs:
        found['grams'] = [input_grams(model, batches(own), matrices)
                          for model, own in zip(models, images.fit, strict=True)]
        left = [name for name in matrices if name not in found['grams'][0]]
        if left:
            logger.warning('the inputs of %s are not seen: plain averages there.', ', '.join(left))
    if 'fisher' in needs:
        found['fisher'] = [diagonal_fisher(model, batches(own), names)
                           for model, own in zip(models, images.fit, strict=True)]
    return found


def _checked_start(start: dict[str, list[float]]) -> dict[str, list[float]]:
    """Log how far networks are from where they began, and advise where that is not one place."""
    start = {key: [round(each, 4) for each in values] for key, values in start.items()}
    logger.info('networks from their start: distance %s of its norm, cosine %s; cosines of task vectors %s',
                start['distance'], start['cosine'], start['between'])
    apart = [str(number) for number, cosine in enumerate(start['cosine']) if cosine < LEAST_COSINE]
    if apart:
        logger.warning(
            'network %s: cosine with the start below %s. It does not share the initialisation, and features stand at '
            'other places: match first (`merge` with a matcher, `align`), or carry its task vector over with '
            '`transport`.', ', '.join(apart), LEAST_COSINE)
    return start
