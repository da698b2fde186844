"""Search of a matcher's options and of the stop, on validation data."""
import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.apis.merging_study import MergingStudy
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.registry import MATCHERS
from mmreuse.utils.io import read_json, state_hash, to_json, write_json
from mmreuse.utils.methods import find_method
from mmreuse.utils.progress import progress

#: What the published search of zip tries.
ZIP_GRID = {'alpha': [1e-4, .01, .1, .3, .5, 1.], 'beta': [0., .0375, .075, .125, .25, 1.]}


def grid_of(study: MergingStudy, options: Mapping[str, Sequence[Any]], stops: Sequence[Any],
            draws: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Trials: ``dict(matcher=..., stop=...)`` for every combination, or some of them at random.

    Args:
        study: Its matcher is varied.
        options: Values by name of the option.
        stops: Where to stop.
        draws: How many combinations; None for all, in order.
        seed: Of the draw.

    Raises:
        ConfigError: The matcher has no such option.
        SpaceError: There is no such stop.
    """
    base = dict(study.matcher) if isinstance(study.matcher, Mapping) else dict(type=study.matcher)
    trials = [dict(matcher={**base, **dict(zip(options, values, strict=True))}, stop=stop)
              for stop in stops for values in itertools.product(*options.values())]
    for trial in trials:
        find_method(MATCHERS, trial['matcher'])
    for stop in stops:
        study.model.set_span(study.start, stop)
    if draws is None:
        return trials
    if not 0 < draws <= len(trials):
        raise ConfigError(f'{draws} draws were asked for; the grid has {len(trials)} combinations.')
    return random.Random(seed).sample(trials, draws)


def search(study: MergingStudy, trials: Sequence[Mapping[str, Any]], metric: str = 'joint',
           split: str = 'val') -> list[dict[str, Any]]:
    """Measure all trials; those that an earlier, killed search of the same study has measured are not repeated.

    Writes ``search-<hash>.json`` into the study's folder after every trial.

    Args:
        study: The sources.
        trials: Of :func:`grid_of`.
        metric: What counts: ``'joint'`` or ``'task_average'``.
        split: What is measured on.

    Returns:
        list[dict]: The trials with their ``accuracy`` and ``costs``, best first.

    Raises:
        ConfigError: There is no such metric.
        ArtefactError: The file of the killed search is damaged.
    """
    path = study.folder / f'search-{_fingerprint(study, split)}.json'
    known = {_key(trial): trial for trial in _earlier(path)}
    results = []
    for trial in progress(trials, 'search'):
        if _key(trial) not in known:
            measured = study.merge(trial['matcher'], stop=trial['stop'], split=split)
            known[_key(trial)] = dict(trial, accuracy=measured.accuracy, costs=measured.costs)
            write_json(path, list(known.values()))
        results.append(known[_key(trial)])
        if metric not in results[0]['accuracy']:
            raise ConfigError(f"there is no metric '{metric}'; there are {', '.join(results[0]['accuracy'])}.")
    return sorted(results, key=lambda result: -result['accuracy'][metric])


def _key(trial: Mapping[str, Any]) -> str:
    return to_json([trial['matcher'], trial['stop']], 'trial', sort_keys=True)


def _earlier(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    trials = read_json(path)
    if not isinstance(trials, list) or not all('accuracy' in trial for trial in trials):
        raise ArtefactError(f'{path}: is not the file of a search. Remove it.')
    return trials


def _fingerprint(study: MergingStudy, split: str) -> str:
    """Of everything that a trial depends on beside matcher and stop."""
    cfg = study.cfg
    facts = Config(dict(
        sources=[state_hash(source.model) for source in study.model.sources], start=study.start, options=study.options,
        renormalizers=study.renormalizers, matching=cfg.train_dataloader, data=cfg[f'{split}_dataloader'],
        metric=cfg[f'{split}_evaluator'], split=split, seed=study.images.seed)).to_dict()
    return hashlib.sha256(to_json(facts, 'settings of the search', sort_keys=True).encode()).hexdigest()[:12]
