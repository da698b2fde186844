"""Refit a changed network, layer by layer and in order, to the networks that it was made of."""
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import nn

from mmreuse.calibration.images import CalibrationImages, Owners
from mmreuse.calibration.memory import assign_memory
from mmreuse.calibration.report import CalibrationReport
from mmreuse.calibration.source import Source
from mmreuse.calibration.walk import Walk
from mmreuse.errors import ConfigError
from mmreuse.graph import adopt, copy_model
from mmreuse.registry import RENORMALIZERS
from mmreuse.utils.configs.methods import options_of
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import PathLike, state_hash
from mmreuse.utils.modes import evaluating

#: After so many regressions a calibration with a cache is kept.
_SEGMENT = 8


@torch.no_grad()
def calibrate(network: nn.Module, sources: Sequence[Source], images: Iterable, *, ridge: float | None = None,
              samples: int | None = None, positions: int | None = 64, layers: Sequence[str] | None = None,
              seed: int = 0, owners: Owners | None = None, residual: bool = False,
              memory_limit: float | None = None, cache_dir: PathLike | None = None) -> CalibrationReport:
    """Refit a network in place to the outputs of its sources' layers; no labels and no gradients are used.

    After a lossy step (channels removed, networks merged) layers get inputs that they were never fitted to. In the
    order in which they run, every convolution, linear layer and norm is solved for anew, by one ridge regression:
    from what the network itself, repaired so far, now feeds to it, to what the sources' own layers give on the same
    images, mapped as their features were. Each layer so makes up for what those before it lost (RegMean++, 2025;
    FeatCal, 2026; for channels that were removed, OSSCAR, 2024).

    ``W = W_0 + (T - W_0 X) X^T (X X^T + lam I)^-1``, centred, ``lam = ridge * mean diag(X X^T)``, where ``W_0`` is the
    network's own weight and T the mean of what the sources give. Where a batch norm alone reads the layer, T is what
    the network's norm has to get to give what the sources' norms do.

    With several processes all call this together, each with its share of the images.

    Args:
        network: Module names are those of the sources. Changed at the end, so that what is interrupted or fails leaves
            it as it is.
        sources: What it was made of.
        images: See :func:`mmreuse.statistics.data.batches`; labels are not used. A few hundred are enough.
        ridge: None to choose it for each layer on a fifth of the images, which are held out.
        samples: How many images to use; None for all.
        positions: How many positions of each image a layer is fitted on; None for all.
        layers: Regular expressions of the names of those that are refitted; None for all.
        seed: Of the positions.
        owners: For each image the number of the source whose outputs are its targets, where sources know images of
            their own; or a function from prepared images (B, ...) to these numbers (B,). None: the mean of what all
            sources give.
        residual: Let layers that are added to a residual stream make up for what the stream has lost before them: their
            target is the source's sum less the network's own stream.
        memory_limit: Bytes, or a share in (0, 1] of what is free; None for 0.8. Where the values of all images do not
            fit, they are computed again for each layer from where they last did.
        cache_dir: Where solved layers are kept by content, so that a run that was ended goes on; None to keep nothing.

    Returns:
        CalibrationReport: What was fitted, and which layers were left as they are, and why.

    Raises:
        ConfigError: A number is out of its range, no layer has such a name, or memory is short.
        DataError: There are too few images, or something is not finite.
        TraceError: A network cannot be recorded.
    """
    if ridge is not None and not ridge >= 0 or positions is not None and positions < 1 or not sources:
        raise ConfigError(f'calibrate: ridge={ridge} must be at least 0, positions={positions} at least 1, and there '
                          f'must be a source ({len(sources)} given).')
    if memory_limit is not None and not memory_limit > 0:
        raise ConfigError(f'calibrate: memory_limit={memory_limit} must be bytes, or a share in (0, 1].')
    twin = copy_model(network)
    with ExitStack() as stack:
        for model in (twin, *(source.model for source in sources)):
            stack.enter_context(evaluating(model))
        walk = Walk(twin, sources, CalibrationImages(images, network, samples, seed, owners), ridge, positions, layers,
                    residual)
        if not walk.problems:
            reasons = '; '.join(f"'{name}': {reason}" for name, reason in list(walk.report.left.items())[:3])
            raise ConfigError(f'calibrate: no layer can be refitted ({reasons or "none has parameters"}). Sources must '
                              "have the network's module names.")
        assign_memory(walk, memory_limit)
        if cache_dir is None:
            walk.fit(walk.problems)
        else:
            _fit_in_segments(walk, StageCache(cache_dir), dict(
                ridge=ridge, positions=positions, residual=residual, seed=seed, owners=walk.images.all_owners,
                processes=get_world_size()))
    adopt(network, twin)
    return walk.report


def _fit_in_segments(walk: Walk, cache: StageCache, settings: dict[str, Any]) -> None:
    """Solve some layers at a time, and take those that were solved before from the cache."""
    key = settings | dict(
        images=walk.images.all_keys, layers=[problem.name for problem in walk.problems],
        network=state_hash(walk.own.network), sources=[source.fingerprint() for source in walk.sources])
    for first in range(0, len(walk.problems), _SEGMENT):
        part = walk.problems[first:first + _SEGMENT]

        def make(folder: PathLike, part: Sequence = part) -> None:
            walk.fit(part)
            walk.save(part, folder)

        walk.load(part, cache.get('calibration', key | dict(segment=first // _SEGMENT), make))


@RENORMALIZERS.register_module(name='calibrate', needs=('samples', 'sources', 'owners', 'layers'))
@options_of(calibrate, without=('sources', 'layers'))
def calibrate_by_name(network: nn.Module, loader: Iterable, *, sources: Sequence[Source] | None = None,
                      layers: str | Sequence[str] | None = None, **options: Any) -> CalibrationReport:
    """Run :func:`calibrate` as a renormalizer.

    Args:
        network: The merged or pruned network.
        loader: Images.
        sources: The networks that it was made of.
        layers: Regular expressions, or one.
        **options: Of :func:`calibrate`.

    Raises:
        ConfigError: What the network was made of is not known here.
    """
    if not sources:
        raise ConfigError("renormalizer 'calibrate' needs the networks that this one was made of, which only the job "
                          'that makes it knows: name it there.')
    return calibrate(network, sources, loader, layers=[layers] if isinstance(layers, str) else layers, **options)
