"""Measure networks between trained ones: aligned by every matcher, corrected by every renormalizer."""
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from mmreuse.engine.runners.sweeps.pairs import PairSweep
from mmreuse.errors import ConfigError
from mmreuse.graph import verified_each
from mmreuse.merging import Aligned, align_graphs, barrier, curve, points
from mmreuse.merging.matching.requirements import needs_moments
from mmreuse.registry import RUNNERS
from mmreuse.renormalization import measure_ends, measure_together
from mmreuse.statistics import collect
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.visualization import draw_connectivity

ENDS = (0., 1.)


@RUNNERS.register_module()
class ConnectivityRunner(PairSweep):
    """Curves of accuracy and loss from one trained network to another.

    Config: as for :class:`~mmreuse.engine.runners.sweep.SweepRunner`, and ``connectivity`` with

    - ``pairs``: names to two checkpoints,
    - ``matchers``: names to configs (``dict(type='weight_matching')``) of matchers that permute,
    - ``renormalizers``: names to configs (``dict(type='repair')``) or lists of them; the networks as they are are
      always measured. Those that choose (``auto``, ``bias_removal``) do so on ``val_dataloader``,
    - ``points``: number of evenly spaced ones (11), or weights of the second network,
    - ``samples``: images that features and statistics are taken of; all by default.

    A row holds ``accuracy/top1`` in percent, ``loss``, and ``choice`` where something was chosen.
    """

    stage = 'connectivity'
    keys = ('pairs', 'matchers', 'renormalizers', 'points', 'samples')
    columns = ('pair', 'matcher', 'renormalizer', 'alpha')
    lists = ('points',)

    def check(self) -> None:
        """Check also that matchers and renormalizers exist and fit the architecture, and pairs and points make sense.

        Raises:
            SpaceError: The architecture lacks the layers of a renormalizer; names them.
            ArtefactError: A checkpoint is missing or of another architecture.
        """
        super().check()
        if not self._alphas():
            raise ConfigError(f'{self.cfg.filename}: connectivity.points is empty: give a number or weights.')
        self.check_pairs(range(2, 3), 'give two checkpoints. Between more networks '
                         'mmreuse.merging.interpolation.curve measures.')

    def execute(self) -> dict[str, Any]:
        """Measure what is missing in the table."""
        self.prepare()
        for pair, paths in self.part['pairs'].items():
            missing = [cell for cell in self._curves() if self._missing(pair, *cell)]
            if missing:
                self._measure(pair, [self.load_classifier(path) for path in paths], missing)
        self.write()
        return self.metrics()

    def metrics(self) -> dict[str, float]:
        """Return also the barriers of the curves, as ``<pair>/<matcher>/<renormalizer>/barrier/<metric>``."""
        found = super().metrics()
        for pair in self.part['pairs']:
            for matcher, name in self._curves():
                rows = [dict(row, weights=[1 - row['alpha'], row['alpha']]) for row in self.rows
                        if (row['pair'], row['matcher'], row['renormalizer']) == (pair, matcher, name)]
                if {row['alpha'] for row in rows} >= set(ENDS):
                    found |= {f'{pair}/{matcher}/{name}/barrier/{key}': value for key, value in barrier(rows).items()
                              if value is not None}
        return found

    def draw(self) -> Figure:
        """Draw accuracy and loss between the ends."""
        return draw_connectivity(self.rows)

    def _alphas(self) -> list[float]:
        wanted = self.part.get('points', 11)
        if isinstance(wanted, int):
            return [weights[1] for weights in points(wanted)]
        return [float(alpha) for alpha in wanted]

    def _curves(self) -> list[tuple[str, str]]:
        return [(matcher, name) for matcher in self.part['matchers'] for name in self.renormalizers()]

    def _missing(self, pair: str, matcher: str, renormalizer: str) -> list[float]:
        return [alpha for alpha in self._alphas()
                if not self.has(pair=pair, matcher=matcher, renormalizer=renormalizer, alpha=alpha)]

    def _measure(self, pair: str, ends: list[nn.Module], missing: list[tuple[str, str]]) -> None:
        """Measure curves between two networks; images are read, and the ends' statistics taken, once for all."""
        images = CachedLoader(self.training_images(self.seed), ends[0])
        data = dict(test=CachedLoader(self.test_loader, ends[0], labelled=True), loader=images,
                    validation=self.validation(ends[0]))
        graphs = verified_each(ends, torch.zeros_like(next(iter(images))[:1]))
        matchers = {name: self.part['matchers'][name] for name, _ in missing}
        samples, moments = self.part.get('samples'), None
        if any(map(needs_moments, matchers.values())):
            moments = collect(graphs, images, samples=samples)
        measured = self._statistics(ends, images, [name for _, name in missing])
        for matcher, cfg in matchers.items():
            aligned = align_graphs(graphs, moments, cfg)
            cosine = aligned.cosines[1]
            self.logger.info(f'{pair}, {matcher}: score {aligned.score}, cosine of the parameters {cosine:.4f}')
            followed = self._followed(aligned, measured)
            for name in [name for which, name in missing if which == matcher]:
                self._add_curve(aligned, dict(pair=pair, matcher=matcher, renormalizer=name), {**data, **followed})

    def _statistics(self, ends: list[nn.Module], images: CachedLoader, renormalizers: list[str]) -> dict[str, Any]:
        """Return the statistics of the ends before alignment that these renormalizers need."""
        needs = {key for name in renormalizers for method in self.renormalizers()[name] for key in method.needs}
        given = dict(targets=measure_ends, moments=measure_together)
        return {key: measure(ends, images, samples=self.part.get('samples')) for key, measure in given.items()
                if key in needs}

    @staticmethod
    def _followed(aligned: Aligned, measured: Mapping[str, Any]) -> dict[str, Any]:
        """Permute statistics as an alignment does; nothing is measured again."""
        follow = dict(targets=aligned.permuted, moments=aligned.matched)
        return {key: follow[key](value) for key, value in measured.items()}

    def _add_curve(self, aligned: Aligned, cell: Mapping[str, str], data: Mapping[str, Any]) -> None:
        """Measure what is missing of a curve. The ends are the same networks in any order, measured as they are."""
        known = {row['alpha']: {key: row[key] for key in ('accuracy/top1', 'loss')} for row in self.rows
                 if row['pair'] == cell['pair'] and row['alpha'] in ENDS}
        alphas = self._missing(**cell)
        fresh = [alpha for alpha in alphas if alpha not in known]
        rows = curve(aligned, [(1 - alpha, alpha) for alpha in fresh], **data, samples=self.part.get('samples'),
                     renormalizers={cell['renormalizer']: self.renormalizers()[cell['renormalizer']]},
                     bf16=bool(self.cfg.get('test_cfg', {}).get('fp16')))
        for alpha, row in zip(fresh, rows, strict=True):
            known[alpha] = {key: value for key, value in row.items() if key not in ('weights', 'renormalizer')}
        self.add_rows(dict(cell, alpha=alpha, **known[alpha]) for alpha in alphas)
