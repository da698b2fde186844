"""Prune a trained classifier in many ways and measure it, before and after renormalization."""
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from matplotlib.figure import Figure
from torch import nn

from mmreuse.calibration import Source
from mmreuse.engine.runners.sweep import SweepRunner
from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import copy_model
from mmreuse.pruning import Fisher, PerSampleGradients, measure_sparsity, prune_weights
from mmreuse.pruning.prune import check_growth
from mmreuse.pruning.scoring import check_saliency, estimate_fisher
from mmreuse.pruning.selection import check_sparsity
from mmreuse.pruning.weights import copy_permanent, find_masks, listed_weights
from mmreuse.registry import RUNNERS, Method
from mmreuse.renormalization import apply_renormalizers
from mmreuse.renormalization.requirements import check_fit
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.utils.files.io import file_hash
from mmreuse.utils.names import refuse_unknown
from mmreuse.visualization import draw_pruning


class PruningSweep(SweepRunner):
    """Base of sweeps over ways of pruning.

    Their part of the config has

    - ``checkpoint``: the trained classifier,
    - ``methods``: names to keywords of the function that prunes,
    - the :attr:`levels` to which each prunes,
    - ``renormalizers``: names to configs (``dict(type='reset', samples=4096)``) or lists of them; the result without
      any is always measured. Those that choose do so on ``val_dataloader``,
    - ``seeds`` of the images drawn ((0,)).

    A subclass names the :attr:`level`, its plural :attr:`levels`, and which keywords methods may have.
    """

    level: ClassVar[str]
    levels: ClassVar[str]
    untouched: ClassVar[float]  # the dense network's level
    description: ClassVar[tuple[str, ...]]  # keys of describe
    keywords: ClassVar[tuple[str, ...]]
    named = {'method': 'methods', 'renormalizer': 'renormalizers'}

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that tell cells apart."""
        return 'method', self.level, 'seed', 'renormalizer'

    @property
    def needed(self) -> tuple[str, ...]:
        """Return the keys that say what is measured."""
        return 'methods', self.levels

    @property
    def lists(self) -> tuple[str, ...]:
        """Return the keys that only say which cells are wanted."""
        return self.levels, 'seeds'

    @abstractmethod
    def check_level(self, value: float) -> None:
        """Raise :class:`ConfigError` unless one can prune to this level."""

    @abstractmethod
    def check_network(self) -> None:
        """Find what :attr:`model` stands against, before anything is measured."""

    @abstractmethod
    def prune(self, level: float, options: dict[str, Any]) -> nn.Module:
        """Return a pruned copy of :attr:`model`."""

    @abstractmethod
    def describe(self, model: nn.Module) -> dict[str, float]:
        """Return the figures of a network beside its accuracy."""

    @abstractmethod
    def targets(self, method: Method) -> dict[str, Any]:
        """Return the target statistics of renormalizers."""

    def measured(self, model: nn.Module, cell: dict[str, Any]) -> None:
        """Called with every network that has been measured."""

    def check(self) -> None:
        """Check also that methods, renormalizers and levels exist, and that there is a checkpoint."""
        super().check()
        for value in self.part[self.levels]:
            self.check_level(value)
        for name, method in self.part['methods'].items():
            refuse_unknown(f"{self.cfg.filename}: method '{name}'", method, self.keywords)
            self._needs(method)
        if not self.part.get('checkpoint'):
            raise ConfigError(f'{self.cfg.filename}: {self.stage}.checkpoint must name the trained weights; pruning '
                              'random ones makes no sense. Pass --checkpoint PATH.')

    def inputs(self) -> dict[str, str]:
        """Return the weights."""
        return {'checkpoint': file_hash(self.part['checkpoint'])}

    def execute(self) -> dict[str, Any]:
        """Measure what is missing in the table.

        Raises:
            ConfigError: The network does not fit.
            DataError: There are fewer images than a method or renormalizer asks for.
            SpaceError: The network lacks the layers of a renormalizer.
            ArtefactError: The checkpoint is missing or of another architecture.
        """
        self.model = copy_permanent(self.load_classifier(self.part['checkpoint']))
        self.listed = {key: self.part[key] for key in ('modules', 'exclude') if key in self.part}
        self.check_network()
        for methods in self.renormalizers().values():
            for method in methods:
                check_fit(method, self.model)
        self.prepare()
        self.chosen_on = self.validation(self.model)
        for seed in self.part.get('seeds', (0,)):
            loader = self.training_images(seed)
            self._check_budgets(len(loader.dataset))
            self.images = CachedLoader(loader, self.model, labelled=True)
            self.drawn: tuple[dict[str, int], PerSampleGradients] | None = None
            if not self.has(method='dense'):
                self._add(self.model, dict(method='dense', seed=0, renormalizer='none') | {self.level: self.untouched})
            for cell, names in self._missing(seed):
                self._measure(cell, names)
        self.write()
        return self.metrics()

    def fisher(self, options: dict[str, Any]) -> Fisher | None:
        """Return the dense network's Fisher, None where it is not needed; methods that draw alike share gradients."""
        _, settings = self._needs(options)
        if settings is None:
            return None
        shape = {key: settings.pop(key) for key in ('damp', 'block')}
        if self.drawn is None or self.drawn[0] != settings:
            self.drawn = None  # gradients are large: one set of them is kept
            weights = listed_weights(self.model, **self.listed)
            found = estimate_fisher(self.model, self.images, weights, find_masks(weights), {**settings, **shape})
            self.drawn, self.fishers = (settings, found.gradients), {}
        return self.fishers.setdefault(tuple(shape.values()), Fisher(self.drawn[1], **shape))

    def accuracy_key(self) -> str:
        """Key of the accuracy."""
        return next(key for key in self.rows[0] if key not in (*self.columns, *self.description))

    def _needs(self, method: dict[str, Any]) -> tuple[Method, dict[str, Any] | None]:
        """Return the saliency of a method, and how its Fisher is estimated if it needs one."""
        return check_saliency(method.get('saliency', 'magnitude'), method.get('scope', 'global'), method.get('update'),
                             method.get('fisher'), channels=self.stage == 'channels')

    def _check_budgets(self, available: int) -> None:
        wanted = {f"renormalizer '{name}'": method.options.get('samples') or 0
                  for name, methods in self.renormalizers().items() for method in methods}
        for name, method in self.part['methods'].items():
            _, settings = self._needs(method)
            if settings is not None:
                wanted[f"method '{name}'"] = settings['samples'] * settings['average']
        for asking, samples in wanted.items():
            if samples > available:
                raise DataError(f'{self.cfg.filename}: {asking} asks for {samples} images, but the train_dataloader '
                                f'has {available}. Ask for fewer.')

    def _missing(self, seed: int) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """One method and level at a time, and the renormalizers that are to be measured."""
        for method in self.part['methods']:
            for value in self.part[self.levels]:
                cell = {'method': method, self.level: value, 'seed': seed}
                names = [name for name in self.renormalizers() if not self.has(**cell, renormalizer=name)]
                if names:
                    yield cell, names

    def _measure(self, cell: dict[str, Any], renormalizers: list[str]) -> None:
        options = self.part['methods'][cell['method']]
        options['fisher'] = self.fisher(options)
        pruned = self.prune(cell[self.level], options)
        for name in renormalizers:
            model = copy_model(pruned)
            for each in self.renormalizers()[name]:
                apply_renormalizers(model, self.images, each, **self.targets(each), validation=self.chosen_on)
            self._add(model, dict(cell, renormalizer=name))

    def _add(self, model: nn.Module, cell: dict[str, Any]) -> None:
        metrics, = self.evaluate([model])
        self.measured(model, cell)
        self.add({**self.describe(model), **metrics}, **cell)


@RUNNERS.register_module()
class PruningRunner(PruningSweep):
    """Sweep over pruning methods, sparsities and renormalizers.

    Config: as for :class:`~mmreuse.engine.runners.sweep.SweepRunner`, and ``pruning`` as :class:`PruningSweep` says,
    with methods for :func:`mmreuse.pruning.prune_weights`
    (``dict(saliency='woodfisher', update='summed', fisher=dict(samples=1000))``), ``sparsities``, ``modules`` and
    ``exclude``.
    """

    stage = 'pruning'
    keys = ('checkpoint', 'methods', 'sparsities', 'renormalizers', 'seeds', 'modules', 'exclude')
    level, levels, untouched = 'sparsity', 'sparsities', 0.
    keywords = ('saliency', 'scope', 'update', 'fisher')
    description = ('listed_sparsity', 'whole_sparsity')

    def check_level(self, value: float) -> None:
        """Sparsities lie in [0, 1)."""
        check_sparsity(value)

    def check_network(self) -> None:
        """Check that the network is not sparser already."""
        check_growth(find_masks(listed_weights(self.model, **self.listed)), min(self.part['sparsities']))

    def prune(self, level: float, options: dict[str, Any]) -> nn.Module:
        """Set weights to zero."""
        pruned = copy_model(self.model)
        prune_weights(pruned, None, level, **options, **self.listed)
        return pruned

    def targets(self, method: Method) -> dict[str, Any]:
        """Return the dense network."""
        return dict(ends=[self.model], sources=[Source(self.model)])

    def describe(self, model: nn.Module) -> dict[str, float]:
        """Return its sparsity."""
        sparsity = measure_sparsity(model, **self.listed)
        return dict(listed_sparsity=sparsity.listed, whole_sparsity=sparsity.whole)

    def draw(self) -> Figure:
        """Draw accuracy against sparsity."""
        return draw_pruning(self.rows, self.accuracy_key(), self.level, 'sparsity of the listed weights')
