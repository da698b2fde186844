"""Prune a trained classifier in many ways and measure it, before and after renormalization."""
import copy
from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from mmreuse.engine.runners.sweep import SweepRunner
from mmreuse.errors import ConfigError
from mmreuse.pruning import Fisher, measure_sparsity, prune_weights
from mmreuse.pruning.scoring import check_options, estimate_fisher, needs_fisher
from mmreuse.pruning.selection import check_sparsity
from mmreuse.pruning.weights import copy_permanent, find_masks, listed_weights
from mmreuse.registry import RENORMALIZERS, RUNNERS
from mmreuse.renormalization import apply_renormalizers
from mmreuse.utils.io import file_hash
from mmreuse.utils.methods import find_method
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

    def check(self) -> None:
        """Also: methods, renormalizers and sparsities exist."""
        super().check()
        sweep = self.part
        for sparsity in sweep['sparsities']:
            check_sparsity(sparsity)
        for method in sweep['methods'].values():
            check_options(**method)
        for each in sweep.get('renormalizers', {}).values():
            for renormalizer in each if isinstance(each, list) else [each]:
                find_method(RENORMALIZERS, renormalizer)
        if not sweep.get('checkpoint'):
            raise ConfigError(f'{self.cfg.filename}: pruning.checkpoint must name the trained weights; pruning random '
                              'ones makes no sense. Pass --checkpoint PATH.')

    def inputs(self) -> dict[str, str]:
        """The weights."""
        return {'checkpoint': file_hash(self.cfg.pruning.checkpoint)}

    def execute(self) -> dict[str, Any]:
        """Measure what is missing in the table."""
        self.model = copy_permanent(self.load_classifier(self.cfg.pruning.checkpoint))
        self.prepare()
        self.listed = {key: self.part[key] for key in ('modules', 'exclude') if key in self.part}
        self.fishers: dict[str, Fisher] = {}
        if not self.has(method='dense'):
            self._add(self.model, method='dense', sparsity=0., seed=0, renormalizer='none')
        for cell in self._missing():
            self._measure(**cell)
        self.fishers.clear()
        self.write()
        return self.metrics()

    def draw(self) -> Figure:
        """Accuracy against sparsity."""
        metric = next(key for key in self.rows[0] if key not in (*self.columns, 'listed_sparsity', 'whole_sparsity'))
        return draw_sparsity(self.rows, metric)

    def _missing(self) -> Iterator[dict[str, Any]]:
        """One method, sparsity and seed at a time, with the renormalizers that are to be measured."""
        sweep = self.part
        for seed in sweep.get('seeds', (0,)):
            for method in sweep['methods']:
                for sparsity in sweep['sparsities']:
                    names = [name for name in ('none', *sweep.get('renormalizers', {}))
                             if not self.has(method=method, sparsity=sparsity, seed=seed, renormalizer=name)]
                    if names:
                        yield dict(method=method, sparsity=sparsity, seed=seed, renormalizers=names)

    def _measure(self, method: str, sparsity: float, seed: int, renormalizers: list[str]) -> None:
        pruned = copy.deepcopy(self.model)
        options = self.part['methods'][method]
        options['fisher'] = self._fisher(options, seed)
        prune_weights(pruned, None, sparsity, **options, **self.listed)
        for name in renormalizers:
            model = copy.deepcopy(pruned)
            if name != 'none':
                apply_renormalizers(model, self.pictures(seed), self.part['renormalizers'][name],
                                    ends=[self.model])
            self._add(model, method=method, sparsity=sparsity, seed=seed, renormalizer=name)

    def _fisher(self, options: dict[str, Any], seed: int) -> Fisher | None:
        """The dense network's Fisher, which methods with the same samples share."""
        function, settings = check_options(**options)
        if not needs_fisher(function, options.get('update')):
            return None
        drawn = {key: value for key, value in settings.items() if key not in ('damp', 'block')}
        if self.fishers.get('drawn') != (drawn, seed):
            weights = listed_weights(self.model, **self.listed)
            # Gradients are large: one set of them is kept.
            self.fishers = {'drawn': (drawn, seed)}
            self.fishers['first'] = estimate_fisher(
                self.model, self.pictures(seed), weights, find_masks(weights), settings)
        key = f'{settings["damp"]}, {settings["block"]}'
        if key not in self.fishers:
            self.fishers[key] = Fisher(self.fishers['first'].gradients, settings['damp'], settings['block'])
        return self.fishers[key]

    def _add(self, model: nn.Module, **cell: Any) -> None:
        sparsity = measure_sparsity(model, **self.listed)
        metrics, = self.evaluate([model])
        self.add(dict(listed_sparsity=sparsity.listed, whole_sparsity=sparsity.whole, **metrics), **cell)
