"""Prune a trained classifier in many ways and measure it, before and after renormalization."""
import copy
from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure
from mmengine.runner import Runner
from torch import nn

from mmreuse.engine.runners.sweep import SweepRunner, plain
from mmreuse.errors import ConfigError, DataError
from mmreuse.pruning import Fisher, PerSampleGradients, measure_sparsity, prune_weights
from mmreuse.pruning.prune import check_growth
from mmreuse.pruning.scoring import check_options, estimate_fisher, needs_fisher
from mmreuse.pruning.selection import check_sparsity
from mmreuse.pruning.weights import copy_permanent, find_masks, listed_weights
from mmreuse.registry import RUNNERS
from mmreuse.renormalization import apply_renormalizers
from mmreuse.renormalization.apply import chooses, find_methods
from mmreuse.renormalization.fit import check_fit
from mmreuse.statistics.replay import Replay
from mmreuse.utils.io import file_hash
from mmreuse.visualization import draw_sparsity


@RUNNERS.register_module()
class PruningRunner(SweepRunner):
    """Sweep over pruning methods, sparsities and renormalizers.

    Config: as for :class:`~mmreuse.engine.runners.sweep.SweepRunner`, and ``pruning`` with

    - ``checkpoint``: the trained classifier,
    - ``methods``: names to keywords of :func:`mmreuse.pruning.prune_weights`
      (``dict(saliency='woodfisher', update='summed', fisher=dict(samples=1000))``),
    - ``sparsities``,
    - ``renormalizers``: names to configs (``dict(type='reset', samples=4096)``) or lists of them; the result without
      any is always measured,
    - ``seeds`` of the pictures drawn ((0,)), ``modules`` and ``exclude``.
    """

    stage = 'pruning'
    keys = ('checkpoint', 'methods', 'sparsities', 'renormalizers', 'seeds', 'modules', 'exclude')
    columns = ('method', 'sparsity', 'seed', 'renormalizer')
    named = {'method': 'methods', 'renormalizer': 'renormalizers'}
    lists = ('sparsities', 'seeds')

    @property
    def settings(self) -> tuple[str, ...]:
        """Also the validation data, if something is chosen on them."""
        choosing = any(chooses(function) for functions in self._renormalizers().values() for function in functions)
        return (*super().settings, 'val_dataloader') if choosing else super().settings

    def check(self) -> None:
        """Also: methods, renormalizers and sparsities exist, and there is a checkpoint."""
        super().check()
        for sparsity in self.part['sparsities']:
            check_sparsity(sparsity)
        for method in self.part['methods'].values():
            check_options(**method)
        if not self.part.get('checkpoint'):
            raise ConfigError(f'{self.cfg.filename}: pruning.checkpoint must name the trained weights; pruning random '
                              'ones makes no sense. Pass --checkpoint PATH.')

    def inputs(self) -> dict[str, str]:
        """The weights."""
        return {'checkpoint': file_hash(self.cfg.pruning.checkpoint)}

    def execute(self) -> dict[str, Any]:
        """Measure what is missing in the table.

        Raises:
            ConfigError: The network is sparser already.
            DataError: There are fewer pictures than a method or renormalizer asks for.
            SpaceError: The network lacks the layers of a renormalizer.
            ArtefactError: The checkpoint is missing or of another architecture.
        """
        self.model = copy_permanent(self.load_classifier(self.part['checkpoint']))
        self.listed = {key: self.part[key] for key in ('modules', 'exclude') if key in self.part}
        self._check_network()
        self.prepare()
        for seed in self.part.get('seeds', (0,)):
            loader = self.pictures(seed)
            self._check_budgets(len(loader.dataset))
            self.images = Replay(loader, self.model, labelled=True)
            self.drawn: tuple[dict[str, int], PerSampleGradients] | None = None
            if not self.has(method='dense'):
                self._add(self.model, method='dense', sparsity=0., seed=0, renormalizer='none')
            for cell in self._missing(seed):
                self._measure(**cell)
        self.write()
        return self.metrics()

    def _check_network(self) -> None:
        masks = find_masks(listed_weights(self.model, **self.listed))
        check_growth(masks, min(self.part['sparsities']))
        for functions in self._renormalizers().values():
            for function in functions:
                check_fit(function, self.model)

    def _check_budgets(self, available: int) -> None:
        wanted = {f"renormalizer '{name}'": getattr(function, 'keywords', {}).get('samples') or 0
                  for name, functions in self._renormalizers().items() for function in functions}
        for name, method in self.part['methods'].items():
            function, settings = check_options(**method)
            if needs_fisher(function, method.get('update')):
                wanted[f"method '{name}'"] = settings['samples'] * settings['average']
        for asking, samples in wanted.items():
            if samples > available:
                raise DataError(f'{self.cfg.filename}: {asking} asks for {samples} pictures, but the train_dataloader '
                                f'has {available}. Ask for fewer.')

    def draw(self) -> Figure:
        """Accuracy against sparsity."""
        metric = next(key for key in self.rows[0] if key not in (*self.columns, 'listed_sparsity', 'whole_sparsity'))
        return draw_sparsity(self.rows, metric)

    def _renormalizers(self) -> dict[str, list]:
        """The functions of each."""
        named = plain(self.cfg.get(self.stage) or {}).get('renormalizers', {})
        return {name: find_methods(each) for name, each in named.items()}

    def _missing(self, seed: int) -> Iterator[dict[str, Any]]:
        """One method and sparsity at a time, with the renormalizers that are to be measured."""
        for method in self.part['methods']:
            for sparsity in self.part['sparsities']:
                names = [name for name in ('none', *self._renormalizers())
                         if not self.has(method=method, sparsity=sparsity, seed=seed, renormalizer=name)]
                if names:
                    yield dict(method=method, sparsity=sparsity, seed=seed, renormalizers=names)

    def _measure(self, method: str, sparsity: float, seed: int, renormalizers: list[str]) -> None:
        pruned = copy.deepcopy(self.model)
        options = self.part['methods'][method]
        options['fisher'] = self._fisher(options)
        prune_weights(pruned, None, sparsity, **options, **self.listed)
        for name in renormalizers:
            model = copy.deepcopy(pruned)
            if name != 'none':
                apply_renormalizers(model, self.images, self._renormalizers()[name], ends=[self.model],
                                    validation=self._validation())
            self._add(model, method=method, sparsity=sparsity, seed=seed, renormalizer=name)

    def _validation(self) -> Replay | None:
        if 'val_dataloader' not in self.settings:
            return None
        return Replay(Runner.build_dataloader(plain(self.cfg.val_dataloader)), self.model, labelled=True)

    def _fisher(self, options: dict[str, Any]) -> Fisher | None:
        """The dense network's Fisher; methods that draw the same samples share the gradients."""
        function, settings = check_options(**options)
        if not needs_fisher(function, options.get('update')):
            return None
        shape = {key: settings.pop(key) for key in ('damp', 'block')}
        if self.drawn is None or self.drawn[0] != settings:
            self.drawn = None  # gradients are large: one set of them is kept
            weights = listed_weights(self.model, **self.listed)
            found = estimate_fisher(self.model, self.images, weights, find_masks(weights), {**settings, **shape})
            self.drawn, self.fishers = (settings, found.gradients), {}
        return self.fishers.setdefault(tuple(shape.values()), Fisher(self.drawn[1], **shape))

    def _add(self, model: nn.Module, **cell: Any) -> None:
        sparsity = measure_sparsity(model, **self.listed)
        metrics, = self.evaluate([model])
        self.add(dict(listed_sparsity=sparsity.listed, whole_sparsity=sparsity.whole, **metrics), **cell)
