"""Measure many merges of the same sources: weights and moments are read once."""
import itertools
import json
import random
import string
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmreuse.engine.classifiers import plain
from mmreuse.engine.evaluation import evaluate
from mmreuse.engine.merging import (
    MatchingImages,
    cached_moments,
    merge_metrics,
    merge_shared_sources,
    merge_sources,
    renormalize_merged,
    validation_score,
)
from mmreuse.engine.runners.sweep import SweepRunner
from mmreuse.errors import ConfigError
from mmreuse.graph import copy_model
from mmreuse.merging import stop_points
from mmreuse.merging.merge import check_merger
from mmreuse.merging.partial.stops import INPUT
from mmreuse.merging.shared.merge_shared import Mergers
from mmreuse.models.classifiers import MergedClassifier
from mmreuse.models.classifiers.plain import convert, read_weights
from mmreuse.networks import open_network
from mmreuse.registry import MATCHERS, MERGERS, MODELS, RENORMALIZERS, RUNNERS
from mmreuse.renormalization.methods.auto import label_of
from mmreuse.statistics import SpaceMoments
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.files.io import file_hash, state_hash, to_json
from mmreuse.utils.files.state_fit import load_strictly
from mmreuse.utils.progress import progress
from mmreuse.visualization import draw_size_curve

MERGE, ENSEMBLE = 'merge', 'ensemble'
#: As tables name places that are no modules: everything is merged, or nothing.
STOPS = {'none': None, 'input': INPUT}
_SPLITS = ('val', 'test')


@RUNNERS.register_module()
class MergingRunner(SweepRunner):
    """Accuracy, size and cost of merges, of their sources, and of the sources' ensemble.

    Config: one that merges, which inherits from ``configs/zipit/_base_merge.py``, and ``merging`` with

    - ``matchers``: names or configs; by default the one of ``default_hooks.merge``,
    - ``mergers``: names or configs, for sources that share the ``base`` of ``default_hooks.merge``; by default its
      own. They stand in the column of matchers,
    - ``stops``: modules, ``'none'`` to merge everything, ``'input'`` for nothing, or ``'all'``: one place after every
      layer; by default that of ``model``,
    - ``draws``: how many combinations of the two, drawn with the seed; all by default,
    - ``sources``: whether each source (A, B, ...) and their ensemble are measured (False), with batch norms reset,
    - ``external``: files of networks that other programs merged, in the architecture of the first source,
    - ``split``: ``'val'`` or ``'test'`` (default).

    Everything else is what a run of the config does. A row holds what the evaluator measures and ``merge/parameters``,
    ``merge/macs``, ``merge/matching_score``, ``merge/..._seconds``.
    """

    stage = 'merging'
    keys = ('matchers', 'mergers', 'stops', 'draws', 'sources', 'external', 'split')
    columns = ('network', 'matcher', 'stop', 'split')
    named = {'network': 'external'}
    lists = ('matchers', 'mergers', 'stops', 'draws', 'sources', 'split')

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        if cfg.get('seed') is None:
            self.seed = int((cfg.get('randomness') or {}).get('seed') or 0)
        hooks = plain(cfg.get('default_hooks') or {})
        self.merges = 'merge' in hooks and 'renormalize' in hooks
        self.options = dict(hooks.get('merge') or {})
        self.matcher: MethodLike = self.options.pop('matcher', 'zip')
        self.merger: Mergers | None = self.options.pop('merger', None)
        self.renormalizers: list[MethodLike] = (hooks.get('renormalize') or {}).get('renormalizers', ['reset'])

    @property
    def split(self) -> str:
        """Return the split that is measured on."""
        return (self.cfg.get(self.stage) or {}).get('split', 'test')

    @property
    def settings(self) -> tuple[str, ...]:
        """Return the config keys that make the table, in which rows of both splits stand."""
        data = [f'{split}_{key}' for split in _SPLITS for key in ('dataloader', 'evaluator')]
        return ('model', self.stage, 'train_dataloader',
                *(key for key in data if key.startswith(self.split) or self.cfg.get(key) is not None))

    def inputs(self) -> dict[str, str]:
        """Return the sources' weights, wherever they come from."""
        networks = {f'source {name}': source.model
                    for name, source in zip(self._letters(), self.model.sources, strict=True)}
        base = {} if self.base is None else dict(base=self.base)
        return {name: state_hash(network) for name, network in {**networks, **base}.items()}

    def recorded_settings(self) -> dict[str, Any]:
        """Return also what merges and renormalises, and the content of external files in place of their names."""
        settings = super().recorded_settings()
        options = {key: value for key, value in self.options.items() if key not in ('type', 'cache_dir')}
        more = dict(merge=options, renormalizers=self.renormalizers,
                    **{key: self.cfg.get(key) for key in ('val_cfg', 'test_cfg')})
        settings |= json.loads(to_json(Config(more).to_dict(), 'settings of merges'))
        settings[self.stage]['external'] = {str(path): file_hash(path) for path in self.part.get('external', ())}
        return settings

    def check(self) -> None:
        """Check also that the config merges, methods, stops and splits exist, and there are enough combinations.

        Raises:
            SpaceError: There is no such stop.
            DataError: There are too few images.
            ArtefactError: A checkpoint is missing or does not fit.
        """
        name = self.cfg.filename
        if not self.merges:
            raise ConfigError(f'{name}: does not merge: default_hooks lacks merge or renormalize. Inherit from '
                              'configs/zipit/_base_merge.py.')
        if self.split not in _SPLITS:
            raise ConfigError(f"{name}: merging.split = '{self.split}'. Take 'val' or 'test'.")
        super().check()
        for matcher in (self.matcher, *self.part.get('matchers', ())):
            find_method(MATCHERS, matcher)
        for merger in self._mergers():
            check_merger(merger, self.options.get('base'), self.options.get('scale'), True, matches=False)
        for renormalizer in self.renormalizers:
            find_method(RENORMALIZERS, renormalizer)
        self.images.check(self.options.get('samples'), 'default_hooks.merge')
        self.cells()

    @cached_property
    def model(self) -> MergedClassifier:
        """Return the classifier of the config, its sources loaded."""
        cfg = plain(self.cfg.model)
        preprocessor = plain(self.cfg.get('data_preprocessor'))
        model = MODELS.build({'data_preprocessor': preprocessor, **cfg}).to(self.device).eval()
        model.init_weights()
        self.start, self.stop = model.start, model.stop
        return model

    @cached_property
    def base(self) -> nn.Module | None:
        """Return the network that the sources were fine-tuned from, if one is named."""
        reference = self.options.get('base')
        return None if reference is None else open_network(reference).to(self.device)

    @cached_property
    def images(self) -> MatchingImages:
        """Return the images for matching and renormalization."""
        return MatchingImages(self.training_images(self.seed), self.model.data_preprocessor, self.seed)

    @cached_property
    def moments(self) -> dict[str, SpaceMoments]:
        """Return the joint moments of the sources."""
        return cached_moments(self.model, self.images, self.options.get('samples'), plain(self.cfg.train_dataloader),
                              self.options.get('cache_dir', 'work_dirs/cache'))

    def cells(self) -> list[tuple[dict[str, str], MethodLike | None]]:
        """List the cells that are wanted, in order, and what matches in each.

        Raises:
            ConfigError: There are fewer combinations than shall be drawn, or heads cannot be merged.
            SpaceError: There is no such stop.
        """
        joined = [*((label_of([find_method(MATCHERS, matcher)]), matcher) for matcher in self._matchers()),
                  *((label_of([find_method(MERGERS, merger)]), merger) for merger in self._mergers())]
        merges = [(dict(network=MERGE, matcher=label, stop=stop), method)
                  for stop, (label, method) in itertools.product(self._stops(), joined)]
        draws = self.part.get('draws')
        if draws is not None:
            if not 0 < draws <= len(merges):
                raise ConfigError(f'{draws} draws were asked for; the grid has {len(merges)} combinations.')
            merges = random.Random(self.seed).sample(merges, draws)
        names = [*self._letters(), ENSEMBLE] if self.part.get('sources') else []
        others = [(dict(network=str(name), matcher='', stop=''), None)
                  for name in (*names, *self.part.get('external', ()))]
        return [(dict(cell, split=self.split), matcher) for cell, matcher in (*others, *merges)]

    def wanted(self) -> list[tuple[dict[str, Any], MethodLike | None]]:
        """List the rows of :meth:`cells` once the stage has run, and what matched in each."""
        rows = {tuple(row.get(key) for key in self.columns): row for row in self._known_rows()}
        return [(rows[tuple(cell[key] for key in self.columns)], matcher) for cell, matcher in self.cells()]

    def execute(self) -> dict[str, Any]:
        """Measure what is missing in the table.

        Raises:
            ArtefactError: An external file cannot be read or does not fit.
            ConfigError: The config does not measure tasks.
        """
        self.rows = self._known_rows()
        self.test_loader = self._loader(self.split)
        missing = [(cell, matcher) for cell, matcher in self.cells() if not self.has(**cell)]
        for cell, matcher in progress(missing, 'merges'):
            if self.has(**cell):  # named twice
                continue
            model, costs = self._network(cell, matcher)
            half = bool((self.cfg.get(f'{self.split}_cfg') or {}).get('fp16'))
            metrics, = evaluate([model], self.test_loader, self.cfg[f'{self.split}_evaluator'], half)
            if 'joint' not in metrics:
                raise ConfigError(f'{self.cfg.filename}: {self.split}_evaluator must be TaskAccuracy, with the tasks '
                                  'of the model.')
            self.add({**metrics, **costs}, **cell)
        self.write()
        return self.metrics()

    def draw(self) -> Figure:
        """Draw accuracy against cost, by matcher; what is no merge is labelled with its name."""
        rows = [row for row in self.rows if row['split'] == self.split]
        return draw_size_curve([dict(row, stop=row['stop'] or row['network']) for row in rows])

    def _matchers(self) -> list[MethodLike]:
        others = any(self.part.get(key) for key in ('sources', 'external'))
        return self.part.get('matchers', [] if others or self._mergers() else [self.matcher])

    def _mergers(self) -> list[MethodLike]:
        others = any(self.part.get(key) for key in ('sources', 'external', 'matchers'))
        own = self.merger if isinstance(self.merger, list | tuple) else [self.merger]
        return self.part.get('mergers', [] if others or self.merger is None else list(own))

    def _stops(self) -> list[str]:
        """Return the names of the wanted stops."""
        model, found = self.model, []
        wanted = self.part.get('stops', [self.stop])
        if wanted == 'all':
            points = {point.depth: point for point in stop_points(model.graphs[0])
                      if point.tensors == 1 and point.depth > 0}  # the last of equal depth
            wanted = [INPUT, *(point.name for point in points.values()), *([None] if model.shares_outputs else [])]
        for stop in wanted:
            model.set_span(self.start, STOPS.get(stop, stop) if isinstance(stop, str) else stop)
            found.append(next((name for name, each in STOPS.items() if each == model.stop), model.stop))
        return found

    def _letters(self) -> list[str]:
        """Return the names of the sources in tables."""
        return task_letters(len(self.model.sources))

    def _network(self, cell: Mapping[str, str],
                 matcher: MethodLike | None) -> tuple[MergedClassifier, dict[str, float]]:
        """Return the network of a cell, and its costs."""
        model, network = self.model, cell['network']
        if network == MERGE:
            model.set_span(self.start, STOPS.get(cell['stop'], cell['stop']))
            costs = self._merge(matcher, is_merger=matcher in self._mergers())
            score = None if self.cfg.get('val_dataloader') is None else self._score
            return model, costs | renormalize_merged(model, self.images, self.renormalizers, score)
        if network == ENSEMBLE:
            model.set_span(None, INPUT)
        elif network in self._letters():
            model = self._alone(self._letters().index(network))
        else:
            model = self._alone(0)
            classifier = model.sources[0].model
            load_strictly(classifier, convert(read_weights(network), classifier, statistics=False), network)
        merge_sources(model, None, 'identity')
        # Nothing was merged; batch norms are reset as those of merges are, to be fair.
        renormalize_merged(model, self.images, [dict(type='reset', samples=self.options.get('samples'))])
        return model, merge_metrics(model, {})

    def _merge(self, method: MethodLike, *, is_merger: bool) -> dict[str, float]:
        """Merge the sources by a matcher or a merger."""
        if is_merger:
            return merge_shared_sources(self.model, self.images, method, self.base, scale=self.options.get('scale'),
                                        samples=self.options.get('samples'), settle=bool(self.renormalizers))[0]
        options = {key: self.options[key] for key in ('overrides', 'refit') if key in self.options}
        return merge_sources(self.model, lambda: self.moments, method, **options)

    def _alone(self, number: int) -> MergedClassifier:
        """Return a classifier of one source."""
        model = self.model
        tasks = model.tasks if len(model.tasks) == 1 else [model.tasks[number]]
        source = model.sources[number]
        single = MergedClassifier(
            [dict(model=copy_model(source.model).cpu(), name=source.name)], tasks, model.input_size,
            num_classes=model.num_classes, stop=INPUT, data_preprocessor=model.data_preprocessor)
        return single.to(self.device).eval()

    def _score(self, network: nn.Module) -> float:
        """Return the score that renormalizers choose by."""
        return validation_score(self.model, self._loader('val'), self.cfg.val_evaluator)(network)

    def _loader(self, split: str) -> DataLoader:
        return Runner.build_dataloader(plain(self.cfg[f'{split}_dataloader']))


def task_letters(count: int) -> list[str]:
    """Return A, B, C, ... as tables name models and tasks."""
    return list(string.ascii_uppercase[:count]) if count <= 26 else [str(number + 1) for number in range(count)]
