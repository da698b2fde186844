"""Many merges of the same sources, measured side by side: weights, data and moments are loaded once."""
import copy
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmreuse.engine import launch
from mmreuse.engine.merging import cached_moments, matching_images, merge_metrics
from mmreuse.engine.unwrap_model import model_of
from mmreuse.errors import ConfigError
from mmreuse.graph import copy_model
from mmreuse.merging import StopPoint, stop_points
from mmreuse.merging.matching.requirements import needs_moments
from mmreuse.merging.partial.stops import INPUT, Place
from mmreuse.models.classifiers import MergedClassifier
from mmreuse.registry import MATCHERS, RENORMALIZERS
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.methods import MethodLike, find_method

SPLITS = ('val', 'test')
#: Which mmengine registers unless they are None.
_MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


@dataclass(frozen=True)
class Measured:
    """One network of a study."""
    accuracy: dict[str, float]  # as TaskAccuracy gives it: joint, task_average, task_a, ...
    costs: dict[str, float]  # as merge_metrics gives them: merge/parameters, merge/macs, merge/..._seconds
    stop: str | None  # module at which the merge ended

    @property
    def flat(self) -> dict[str, float]:
        """Everything under the keys of ``metrics.json``."""
        return {**self.accuracy, **self.costs}


class MergingStudy:
    """Merges of the sources of one config, with other matchers, stops and options than the config's.

    Args:
        cfg: A config that merges, such as ``configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py``, ready to run.

    Raises:
        ConfigError: The config does not merge, or does not measure tasks.
        ArtefactError: A checkpoint is missing or does not fit.
        DataError: There are too few images.
    """

    def __init__(self, cfg: Config) -> None:
        hooks = cfg.get('default_hooks', {})
        if 'merge' not in hooks or 'renormalize' not in hooks:
            raise ConfigError(f'{cfg.filename}: does not merge: default_hooks lacks merge or renormalize. Inherit from '
                              'configs/zipit/_base_merge.py.')
        self.cfg = cfg
        self.folder = Path(cfg.work_dir)
        self.options = {key: value for key, value in hooks['merge'].items() if key not in ('type', 'matcher')}
        self.matcher: MethodLike = hooks['merge'].get('matcher', 'zip')
        self.renormalizers: Sequence[MethodLike] = hooks['renormalize'].get('renormalizers', ['reset'])
        find_method(MATCHERS, self.matcher)
        for renormalizer in self.renormalizers:
            find_method(RENORMALIZERS, renormalizer)
        quiet = copy.deepcopy(cfg)
        quiet.default_hooks = dict.fromkeys(_MMENGINE_HOOKS)  # nothing is trained, logged or saved on the way
        self.runner: Runner = launch.build_runner(quiet)
        self.model = model_of(self.runner, MergedClassifier)
        self.images = matching_images(self.runner)
        self.images.check(self.options.get('samples'), 'default_hooks.merge')
        self.start, self.stop = self.model.start, self.model.stop
        self.model.init_weights()

    @cached_property
    def moments(self) -> dict[str, SpaceMoments]:
        """Joint moments of the sources, on the config's images for matching."""
        cache = self.options.get('cache_dir', 'work_dirs/cache')
        data = Config(dict(self.cfg.train_dataloader)).to_dict()
        return cached_moments(self.model, self.images, self.options.get('samples'), data, cache)

    def merge(self, matcher: MethodLike | None = None, *, stop: Place, split: str = 'val') -> Measured:
        """Merge, renormalise and measure.

        Args:
            matcher: Name or config; None for the config's.
            stop: Where the merge ends, see :func:`mmreuse.merging.find_stop`; None merges everything.
            split: ``'val'`` or ``'test'``: what is measured on.

        Raises:
            SpaceError, ConfigError: As :meth:`~mmreuse.models.classifiers.merged.MergedClassifier.merge`.
        """
        matcher = self.matcher if matcher is None else matcher
        overrides, refit = self.options.get('overrides'), self.options.get('refit', False)
        find_method(MATCHERS, matcher)
        self.model.set_span(self.start, stop)
        wanted = bool(self.model.spaces) and (needs_moments(matcher, overrides) or refit)
        seconds = self.model.merge(self.moments if wanted else None, matcher, overrides=overrides, refit=refit)
        self.renormalize(self.model)
        return Measured(self.accuracy(self.model, split), merge_metrics(self.model, seconds), self.model.stop)

    def renormalize(self, model: MergedClassifier) -> None:
        """Apply the config's renormalizers."""
        for renormalizer in self.renormalizers:
            model.renormalize(renormalizer, self.images)

    @cached_property
    def stops(self) -> list[StopPoint]:
        """One place after every weighted layer behind which one tensor crosses: the last of equal depth."""
        points = {point.depth: point for point in stop_points(self.model.graphs[0])
                  if point.tensors == 1 and point.depth > 0}
        return list(points.values())

    def all_stops(self) -> list[str | None]:
        """From the ensemble to the whole merge, which is left out where the heads have no common meaning."""
        return [INPUT, *(point.name for point in self.stops), *([None] if self.model.shares_outputs else [])]

    def source(self, number: int, split: str = 'val') -> Measured:
        """One source, on the data of all tasks."""
        return self.measure(self.alone(number), split)

    def ensemble(self, split: str = 'val') -> Measured:
        """All sources, one output a task."""
        self.model.set_span(None, INPUT)
        self.model.merge(None, 'identity')
        return self.measure(self.model, split)

    def measure(self, model: MergedClassifier, split: str = 'val') -> Measured:
        """Measure a network in which nothing was merged, its batch norms reset as those of merges are, to be fair."""
        model.renormalize(dict(type='reset', samples=self.options.get('samples')), self.images)
        return Measured(self.accuracy(model, split), merge_metrics(model, {}), model.stop)

    def alone(self, number: int) -> MergedClassifier:
        """A classifier that is one source, untouched."""
        model = self.model
        tasks = model.tasks if len(model.tasks) == 1 else [model.tasks[number]]
        source = model.sources[number]
        single = MergedClassifier(
            [dict(model=copy_model(source.model).cpu(), name=source.name)], tasks, model.input_size,
            num_classes=model.num_classes, stop=INPUT, data_preprocessor=model.data_preprocessor)
        single.merge(None, 'identity')
        return single.to(model.data_preprocessor.device)

    def accuracy(self, model: MergedClassifier, split: str = 'val') -> dict[str, float]:
        """Joint, per-task and task-average accuracy on the validation or test data.

        Raises:
            ConfigError: There is no such split, or the config measures something else.
        """
        if split not in SPLITS:
            raise ConfigError(f"there is no split '{split}'. Take 'val' or 'test'.")
        loop = self.runner.val_loop if split == 'val' else self.runner.test_loop
        self.runner.model = model
        try:
            metrics = loop.run()
        finally:
            self.runner.model = self.model
        if 'joint' not in metrics:
            raise ConfigError(f'{self.cfg.filename}: {split}_evaluator must be TaskAccuracy, with the tasks of the '
                              'model.')
        return {key: float(value) for key, value in metrics.items()}


def study_main(description: str, run: Callable[[MergingStudy, Namespace], None],
               add_arguments: Callable[[ArgumentParser], None] | None = None) -> None:
    """The command line of a tool that measures merges: ``CONFIG [--split --work-dir --cfg-options --seed]``."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file that merges')
    parser.add_argument('--split', choices=SPLITS, default='test', help='what to measure on (default: %(default)s)')
    if add_arguments is not None:
        add_arguments(parser)
    launch.add_arguments(parser)
    args = parser.parse_args()
    with launch.reported_errors():
        run(MergingStudy(launch.prepare(args)), args)
