"""Shared by merging hooks and tools: images for matching, moments taken once, the report of a merge."""
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmreuse.distillation.teachers import surest
from mmreuse.engine.evaluation import evaluate
from mmreuse.engine.training.replay import OwnDraws, fresh_loader
from mmreuse.engine.unwrap_model import model_of
from mmreuse.errors import DataError
from mmreuse.graph import Assign
from mmreuse.merging import Matching, merge_weights
from mmreuse.merging.matching.requirements import needs_moments
from mmreuse.merging.merge import fill_trunk, match_and_refit, renormalize
from mmreuse.merging.shared.agreement import TaskImages
from mmreuse.merging.shared.merge_shared import Mergers, Scale
from mmreuse.models.classifiers import MergedClassifier
from mmreuse.renormalization import Scores
from mmreuse.statistics import SpaceMoments, collect
from mmreuse.statistics.moment_files import load_moments, save_moments
from mmreuse.utils.configs.methods import MethodLike, method_name
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import state_hash
from mmreuse.utils.modes import evaluating


class MatchingImages:
    """The images of a loader as a model's preprocessor prepares them, the same in every pass.

    Args:
        loader: Of mmengine; workers of its own are started for every pass, and end with it.
        preprocessor: The model's.
        seed: Of shuffling and augmentation.
    """

    def __init__(self, loader: DataLoader, preprocessor: torch.nn.Module, seed: int) -> None:
        self.loader = fresh_loader(loader)
        self.preprocessor = preprocessor
        self.seed = seed

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Tensor]:
        return (batch['inputs'] for batch in self._prepared())

    def by_task(self, tasks: Sequence[Sequence[int]], samples: int | None) -> list[Tensor]:
        """Return the images of each task, (N, ...); labels say no more than which task an image is of.

        Args:
            tasks: Class ids of each.
            samples: How many images to read over all processes; None for all.
        """
        images, labels, left = [], [], math.inf if samples is None else samples // get_world_size()
        for batch in self._prepared():
            images.append(batch['inputs'][:left if left < math.inf else None])
            labels += [int(sample.gt_label) for sample in batch['data_samples']][:len(images[-1])]
            left -= len(images[-1])
            if left <= 0:
                break
        found, known = torch.cat(images), torch.tensor(labels)
        return [found[torch.isin(known, torch.tensor(task)).to(found.device)] for task in tasks]

    def _prepared(self) -> Iterator[dict[str, Any]]:
        draws = OwnDraws(self.seed)
        with draws:
            batches = iter(self.loader)
        while True:
            with draws:
                batch = next(batches, None)
            if batch is None:
                return
            yield self.preprocessor(batch, False)

    def check(self, samples: int | None, asked_by: str) -> None:
        """Make sure that there are as many images as are wanted.

        Raises:
            DataError: There are fewer.
        """
        available = len(self.loader.dataset)
        if samples is not None and samples > available:
            raise DataError(f'{asked_by} asks for samples = {samples}, but the train_dataloader has {available} '
                            'images. Ask for fewer, or for all with None.')

    def fingerprint(self) -> str:
        """Hash of the main process's first batch, which tells other data, another order or augmentation."""
        found = [state_hash({'images': next(iter(self))}) if is_main_process() else None]
        broadcast_object_list(found)
        return found[0]


def matching_images(runner: Runner) -> MatchingImages:
    """Return the images of the training loader of a runner."""
    return MatchingImages(runner.train_dataloader, model_of(runner, MergedClassifier).data_preprocessor, runner.seed)


def validation_score(model: MergedClassifier, loader: DataLoader, evaluator: Any) -> Callable[[nn.Module], float]:
    """Return what says how good a network is in place of the merged one of a model.

    Args:
        model: Merged.
        loader: Validation data.
        evaluator: Config or built; its first metric counts.
    """
    def score(network: nn.Module) -> float:
        before, model.merged = model.merged, network
        try:
            with evaluating(model):
                metrics, = evaluate([model], loader, evaluator)
        finally:
            model.merged = before
        return next(iter(metrics.values()))

    return score


def collect_moments(model: MergedClassifier, images: Iterable, samples: int | None = None) -> dict[str, SpaceMoments]:
    """Joint moments of all feature spaces that the sources share, in one pass; good for every matcher and stop.

    Args:
        model: With its sources' weights loaded.
        images: Batches, prepared.
        samples: How many images to use; None for all.

    Raises:
        DataError: There are too few, or a feature is not finite.
    """
    shared = [name for name, space in model.graphs[0].spaces.items()
              if space.taps and all(name in graph.spaces for graph in model.graphs)]
    return collect(model.graphs, images, shared, samples=samples)


def cached_moments(model: MergedClassifier, images: MatchingImages, samples: int | None, data: Mapping[str, Any],
                   cache_dir: str | Path) -> dict[str, SpaceMoments]:
    """The same, from the cache where they were taken before.

    Args:
        model, images, samples: As for :func:`collect_moments`.
        data: Settings that say what the images are.
        cache_dir: Where moments are kept by content.
    """
    key = dict(sources=[state_hash(source.model) for source in model.sources], data=data, samples=samples,
               images=images.fingerprint(), seed=images.seed, processes=get_world_size(),
               spaces=[{name: [space.size, *(tap.where for tap in space.taps[-1:])]
                        for name, space in graph.spaces.items()} for graph in model.graphs])

    def make(folder: Path) -> None:
        moments = collect_moments(model, images, samples)
        if is_main_process():
            save_moments(folder / 'moments.safetensors', moments)

    found = StageCache(cache_dir).get('moments', key, make)
    return load_moments(found / 'moments.safetensors')


def merge_sources(
    model: MergedClassifier,
    moments: Callable[[], Mapping[str, SpaceMoments]],
    matcher: MethodLike = 'zip',
    *,
    overrides: Mapping[str, MethodLike] | None = None,
    refit: bool = False,
    matchings: Mapping[str, Matching] | None = None,
) -> dict[str, float]:
    """Merge the sources of a classifier, from its start to its stop.

    Args:
        model: With its sources' weights loaded.
        moments: Called for the joint moments of all spaces, where they are needed; see :func:`cached_moments`.
        matcher: Name or config of :data:`mmreuse.registry.MATCHERS`.
        overrides: Other matchers for some spaces, by regular expression.
        refit: Unmerge by least squares, see :func:`mmreuse.merging.matching.refit.refit`.
        matchings: What an earlier call with the same arguments has found, to be used again.

    Returns:
        dict[str, float]: See :func:`merge_metrics`.

    Raises:
        SpaceError, ConfigError: As :func:`~mmreuse.merging.matching.match_spaces.match_spaces`.
    """
    started = time.perf_counter()
    measured = matchings is None and model.spaces and (refit or needs_moments(matcher, overrides))
    found = moments() if measured else None
    collected = time.perf_counter()
    if matchings is None:
        matchings = match_and_refit(model.graphs, found, matcher, spaces=model.spaces, overrides=overrides, refit=refit)
    matched = time.perf_counter()
    model.hold(merge_weights(model.graphs, matchings, start=model.start, stop=model.stop), method_name(matcher),
               matchings)
    return merge_metrics(model, dict(statistics=collected - started, matching=matched - collected,
                                     fusing=time.perf_counter() - matched))


def merge_shared_sources(model: MergedClassifier, images: MatchingImages, merger: Mergers, base: nn.Module | None,
                         *, scale: Scale = None, samples: int | None = None,
                         settle: bool = True) -> tuple[dict[str, float], dict[str, Any]]:
    """Merge the sources of a classifier that share an initialisation.

    Args:
        model: With its sources' weights loaded.
        images: What is measured and chosen on, each source on those of its own task where tasks differ.
        merger, base, scale: See :func:`mmreuse.merging.shared.merge_shared.merge_shared`.
        samples: How many images; None for all.
        settle: Reset batch norms before agreement is measured.

    Returns:
        tuple: See :func:`merge_metrics`, with ``merge/scale``, ``merge/agreement`` and ``merge/divergence``; and what
        was chosen and tried.

    Raises:
        ConfigError, SpaceError, DataError: As there.
    """
    started = time.perf_counter()
    networks = [source.model for source in model.sources]
    own = images.by_task(model.tasks, samples) if len(model.tasks) > 1 else None
    shown = TaskImages.of(networks, images, own, None if own else samples)
    merged = merge_weights(model.graphs, {}, start=model.start, stop=model.stop)
    report = fill_trunk(merged, model.graphs, merger, base, scale, shown, settle=settle)
    model.hold(merged, report['type'])
    chosen = {f'merge/{key}': report[key] for key in ('scale', 'agreement', 'divergence') if report[key] is not None}
    return {**merge_metrics(model, dict(merging=time.perf_counter() - started)), **chosen}, report


def renormalize_merged(model: MergedClassifier, images: MatchingImages, renormalizers: Sequence[MethodLike],
                       score: Callable[[nn.Module], float] | None = None) -> dict[str, float]:
    """Apply renormalizers to a merge, one after the other.

    Args:
        model: Merged.
        images: What statistics are taken of.
        renormalizers: Names or configs of :data:`mmreuse.registry.RENORMALIZERS`.
        score: For those that choose.

    Returns:
        dict[str, float]: Seconds, as ``metrics.json`` names them.
    """
    started = time.perf_counter()
    apart = dict(owners=model.owners, scores=Scores(model.scores, model.source_scores, partial(
        surest, tasks=model.tasks))) if len(model.tasks) > 1 else {}
    for renormalizer in renormalizers:
        renormalize(model.merged, images, renormalizer, model.graphs, model.matchings, score=score, **apart)
    return {'merge/renormalization_seconds': time.perf_counter() - started}


def merge_metrics(model: MergedClassifier, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return size, cost for one image, mean matching score and seconds of a merge, as ``metrics.json`` names them."""
    image = torch.zeros(1, *model.input_size, device=model.data_preprocessor.device)
    scores = [matching.score for matching in model.matchings.values() if math.isfinite(matching.score)]
    return {
        'merge/parameters': count_params(model.merged),
        'merge/macs': count_macs(model.merged, image),
        **({'merge/matching_score': sum(scores) / len(scores)} if scores else {}),
        **{f'merge/{stage}_seconds': value for stage, value in seconds.items()},
    }


def matching_report(model: MergedClassifier) -> dict[str, dict[str, Any]]:
    """Report the matching of each space: widths, mean similarity (None where nothing was measured), kind of map.

    ``within`` is the share of merged features that take in two features of one model, None for dense maps.
    """
    return {name: dict(sizes=list(matching.sizes), merged=matching.size, within=_share_within(matching),
                       score=matching.score if math.isfinite(matching.score) else None)
            for name, matching in model.matchings.items()}


def _share_within(matching: Matching) -> float | None:
    if not isinstance(matching.map, Assign):
        return None
    folds = torch.zeros(matching.size, dtype=torch.bool)
    for own in matching.per_model():
        folds |= own.index[own.index >= 0].bincount(minlength=matching.size) > 1
    return float(folds.double().mean())
