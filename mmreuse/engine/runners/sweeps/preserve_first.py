"""Measure merges that preserve ever more of the models' own layers, by every matcher and renormalizer."""
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from mmreuse.engine.runners.sweeps.pairs import PairSweep
from mmreuse.errors import ConfigError
from mmreuse.graph import TracedModel, verified, verified_each
from mmreuse.merging import PreservePoint, evaluate_together, preserve_first_points, preserve_point
from mmreuse.merging.partial.preserve_first import Ensemble, Place, PreserveFirst
from mmreuse.registry import RUNNERS
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.statistics.passes import images_of
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.names import nearest
from mmreuse.visualization import draw_preserve_first

NONE = 'none'


@RUNNERS.register_module()
class PreserveFirstRunner(PairSweep):
    """Accuracy and cost of merges of trained networks against how much of their own layers they preserve.

    Config: as for :class:`~mmreuse.engine.runners.sweep.SweepRunner`, and ``preserve_first`` with

    - ``pairs``: names to two or more checkpoints,
    - ``matchers``: names to configs (``dict(type='permute')``),
    - ``renormalizers``: names to configs (``dict(type='rescale')``) or lists of them; merges as they are are always
      measured,
    - ``points``: ``'all'`` (default), or indices (0 preserves nothing), names of modules, ``dict(gmacs=LIMIT)`` or
      ``dict(params=LIMIT)``, see :func:`mmreuse.merging.find_start`,
    - ``samples``: images that moments, statistics and renormalizers are taken on; all by default,
    - ``memory_gb``: of images and features that are kept (2).

    A row holds the ``point`` (module that ends the preserved front), its ``index``, ``layers``, ``params`` and ``macs``
    of the merged network, ``accuracy/top1`` in percent and ``loss``. The networks themselves and their ensemble have
    rows of the matcher ``none``. ``test_cfg.fp16`` evaluates under autocast to bfloat16.
    """

    stage = 'preserve_first'
    keys = ('pairs', 'matchers', 'renormalizers', 'points', 'samples', 'memory_gb')
    columns = ('pair', 'matcher', 'renormalizer', 'point')
    lists = ('points', 'memory_gb')

    def check(self) -> None:
        """Check also that matchers, renormalizers and points exist and fit the architecture, and that pairs are pairs.

        Raises:
            SpaceError: The architecture lacks a point, or the layers of a renormalizer; names them.
            ArtefactError: A checkpoint is missing or of another architecture.
        """
        for name in self.choosers():
            raise ConfigError(f"{self.cfg.filename}: renormalizer '{name}' chooses; name what it could choose instead, "
                              'every one of them is measured.')
        super().check()
        network = self.check_pairs(range(2, 1000), 'give two checkpoints or more.')
        self._points([verified(network, self._image(network))])

    def execute(self) -> dict[str, Any]:
        """Measure what is missing in the table."""
        self.prepare()
        for pair in self.part['pairs']:
            graphs = self._graphs(pair)
            points = self._points(graphs)
            wanted = {point.name: cells for point in points if (cells := self._missing(pair, point))}
            ends = None if self.has(pair=pair, point='ensemble') else self._ends(graphs)
            if wanted or ends:
                self._measure(pair, graphs, ends, [point for point in points if point.name in wanted], wanted)
        self.write()
        return self.metrics()

    def draw(self) -> Figure:
        """Draw accuracy against the index and against the cost."""
        return draw_preserve_first(self.rows)

    def save(self, path: str | Path, *, start: Any, matcher: str, renormalizer: str = NONE,
             pair: str | None = None) -> PreservePoint:
        """Write one merge as a checkpoint that a :class:`~mmreuse.models.MergedClassifier` of the same networks loads.

        Args:
            path: Target file.
            start: One of ``points``.
            matcher: Its name in the config.
            renormalizer: Likewise, or 'none'.
            pair: Likewise; None for the first.

        Returns:
            PreservePoint: The place, and what the merge costs.

        Raises:
            ConfigError: There is no such name in the config.
            SpaceError: There is no such point.
        """
        self.check()
        pair = pair or next(iter(self.part['pairs']))
        for key, name, known in (('pairs', pair, self.part['pairs']), ('matchers', matcher, self.part['matchers']),
                                 ('renormalizers', renormalizer, self.renormalizers())):
            if name not in known:
                raise ConfigError(f"{self.cfg.filename}: preserve_first.{key} has no '{name}'. {nearest(name, known)}")
        graphs = self._graphs(pair)
        point = _point(graphs, start)
        place = next(self._study(graphs).places([point.name]))
        merged = place.merge(matcher)
        if renormalizer != NONE:
            merged = place.renormalized(merged, matcher, self.renormalizers()[renormalizer])
        state = {f'merged.{key}': tensor.cpu() for key, tensor in place.module(merged).state_dict().items()}
        with atomic_path(path) as temporary:
            torch.save(dict(meta=dict(point=asdict(point), matcher=matcher, renormalizer=renormalizer),
                            state_dict=state), temporary)
        return point

    def _graphs(self, pair: str) -> list[TracedModel]:
        networks = [self.load_classifier(path) for path in self.part['pairs'][pair]]
        return verified_each(networks, self._image(networks[0]))

    def _image(self, network: nn.Module) -> torch.Tensor:
        return torch.zeros_like(images_of(next(iter(self.training_images(self.seed))), network)[:1])

    def _points(self, graphs: list[TracedModel]) -> list[PreservePoint]:
        """Return the points that are wanted, in execution order."""
        wanted = self.part.get('points', 'all')
        if wanted == 'all':
            return [_point(graphs, None), *preserve_first_points(graphs[0], len(graphs))]
        found = {point.name: point for point in (_point(graphs, start) for start in wanted)}
        return sorted(found.values(), key=lambda point: (point.macs, point.params))

    def _missing(self, pair: str, point: PreservePoint) -> list[tuple[str, str]]:
        """Matchers and renormalizers that are still to be measured at a point."""
        return [(matcher, name) for matcher in self.part['matchers'] for name in self.renormalizers()
                if not self.has(pair=pair, matcher=matcher, renormalizer=name, point=point.name or 'input')]

    @staticmethod
    def _ends(graphs: list[TracedModel]) -> dict[str, tuple[nn.Module, dict[str, int]]]:
        """Return the networks themselves and their ensemble, with their costs."""
        networks = [graph.model for graph in graphs]
        whole, last = _point(graphs, None), preserve_first_points(graphs[0])[-1]
        cost = dict(params=whole.params, macs=whole.macs)
        both = dict(index=last.index + 1, **{key: value * len(networks) for key, value in cost.items()})
        return {**{f'net {number}': (network, cost) for number, network in enumerate(networks, 1)},
                'ensemble': (Ensemble(networks), both)}

    def _study(self, graphs: list[TracedModel]) -> PreserveFirst:
        return PreserveFirst(graphs, self.part['matchers'], self.training_images(self.seed),
                             samples=self.part.get('samples'), memory=1e9 * self.part.get('memory_gb', 2))

    def _measure(self, pair: str, graphs: list[TracedModel], ends: dict | None, points: list[PreservePoint],
                 wanted: dict[str, list[tuple[str, str]]]) -> None:
        study = self._study(graphs)
        test = CachedLoader(self.test_loader, graphs[0].model, labelled=True, limit=int(study.memory))
        bf16 = bool(self.cfg.get('test_cfg', {}).get('fp16'))
        if ends:
            cells = [dict(matcher=NONE, renormalizer=NONE, point=name, **cost) for name, (_, cost) in ends.items()]
            self._add(pair, cells, evaluate_together([network for network, _ in ends.values()], test, bf16=bf16))
        for place, point in zip(study.places([point.name for point in points], test), points, strict=True):
            cells = [dict(matcher=matcher, renormalizer=name, point=point.name or 'input', index=point.index,
                          layers=point.layers, params=point.params, macs=point.macs)
                     for matcher, name in wanted[point.name]]
            self._add(pair, cells, evaluate_together(self._networks(place, wanted[point.name]), place.test, bf16=bf16))

    def _networks(self, place: Place, cells: Sequence[tuple[str, str]]) -> list[nn.Module]:
        """Merged at one place by several matchers and renormalizers."""
        merged = {matcher: place.merge(matcher) for matcher in dict.fromkeys(matcher for matcher, _ in cells)}
        return [merged[matcher] if name == NONE else
                place.renormalized(merged[matcher], matcher, self.renormalizers()[name]) for matcher, name in cells]

    def _add(self, pair: str, cells: Sequence[dict[str, Any]], metrics: Sequence[dict[str, float]]) -> None:
        self.add_rows(dict(pair=pair, **cell, **found) for cell, found in zip(cells, metrics, strict=True))


def _point(graphs: Sequence[TracedModel], start: Any) -> PreservePoint:
    """Return the place that a config means, where numbers are indices."""
    return preserve_point(graphs[0], dict(index=start) if isinstance(start, int) else start, len(graphs))
