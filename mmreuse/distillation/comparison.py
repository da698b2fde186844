"""A repaired network beside its controls: agreement with the sources on held-out images, and the cost of each."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.distillation.controls import ENSEMBLE, HEAD, closed_form_heads
from mmreuse.distillation.distill import agreement
from mmreuse.distillation.objective import Scoring, plain_scoring
from mmreuse.errors import ConfigError
from mmreuse.statistics.data import LEAST_HELD_OUT, Data, repeatable
from mmreuse.statistics.passes import image_batches
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.tables import Rows, Tabular

#: To so many images that are learnt from comes one that is held out.
_PER_HELD_OUT = 10


@dataclass(frozen=True)
class Comparison(Tabular):
    """What a repair made of a network, and what it made of other starts.

    Attributes:
        networks: Of the network and its controls: ``network``, ``agreement`` with the sources on held-out images in
            percent, ``cost`` (multiply-accumulates over those of the first source), ``images``, ``steps``, ``seconds``.
        left: Controls that cannot be made, and why.
        reports: What came of each repair, by network.
    """
    networks: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    reports: dict[str, Any] = field(default_factory=dict, repr=False)

    def rows(self) -> Rows:
        """Return one row per network."""
        return self.networks

    def notes(self) -> Sequence[str]:
        """Say which controls cannot be made."""
        return [f'no control {name}: {reason}' for name, reason in self.left.items()]


@dataclass(frozen=True)
class Bench:
    """Where a network and its controls are repaired and judged alike.

    Attributes:
        sources: What the network was made of, in evaluation mode.
        used: Images that are used for repairs, prepared.
        held_out: Others, to judge by.
        repair: Changes a network in place; returns a report, and what it took: ``images``, ``steps``, ``seconds``.
        result: Gets a row for each network.
    """
    sources: Sequence[nn.Module]
    used: Tensor
    held_out: Tensor
    repair: Callable[[nn.Module], tuple[Any, dict[str, float]]]
    result: Comparison

    @property
    def named(self) -> dict[str, nn.Module]:
        """Return the sources by the names that they have in rows."""
        return {f'source {number}': source for number, source in enumerate(self.sources)}

    def scoring(self, network: nn.Module) -> Scoring:
        """Return how a network is compared with the sources.

        Raises:
            ConfigError: The outputs do not fit each other.
        """
        return plain_scoring(network, self.sources, self.held_out[:1])

    def note(self, name: str, network: nn.Module, scoring: Scoring | None = None, **took: float) -> None:
        """Judge a network as it is."""
        reached = agreement(network, scoring or self.scoring(network), self.held_out)
        self._add(name, reached, self._macs(network), **took)

    def run(self, name: str, network: nn.Module) -> None:
        """Repair a network in place, and judge it."""
        self.result.reports[name], took = self.repair(network)
        self.note(name, network, **took)

    def run_controls(self, network: nn.Module, starts: Mapping[str, nn.Module | None]) -> None:
        """Repair and judge other starts, judge closed-form heads, and say what the ensemble costs.

        Args:
            network: The changed one.
            starts: See :func:`mmreuse.distillation.controls.starts`.
        """
        for name, start in starts.items():
            if start is None:
                self.result.left[name] = 'the weights do not fit the network'
            else:
                self.run(name, start)
        scoring = self.scoring(network)
        try:
            heads = closed_form_heads(self.named, scoring, self.used)
        except ConfigError as error:
            self.result.left[HEAD + 'the sources'] = str(error)
        else:
            for name, head in heads.items():
                self.note(name, head, replace(scoring, own=head.scores), images=len(self.used))
        self._add(ENSEMBLE, 100., sum(map(self._macs, self.sources)))

    @cached_property
    def _unit(self) -> int:
        return self._macs(self.sources[0])

    def _macs(self, network: nn.Module) -> int:
        return count_macs(network, self.held_out[:1])

    def _add(self, name: str, reached: float, macs: int, **took: float) -> None:
        self.result.networks.append(dict(network=name, agreement=reached, cost=macs / self._unit,
                                         **dict(images=0, steps=0, seconds=0.) | took))


def split(images: Data, network: nn.Module, wanted: int | None) -> tuple[Tensor, Tensor]:
    """Return images to learn from, as many as are wanted or there are, and held-out ones: a tenth, but at least 16.

    Args:
        images: See :func:`mmreuse.statistics.data.batches`.
        network: That they are prepared for.
        wanted: How many; None for all.
    """
    found, count = [], 0
    for each, in image_batches(repeatable(images), [network], description='images'):
        found.append(each)
        count += len(each)
        if wanted is not None and count >= with_held_out(wanted):
            break
    return part_held_out(torch.cat(found))


def with_held_out(wanted: int) -> int:
    """Return how many images are read to learn from so many."""
    return wanted + max(LEAST_HELD_OUT, wanted // _PER_HELD_OUT)


def part_held_out(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return images to learn from and held-out ones, see :func:`with_held_out`."""
    held_out = max(LEAST_HELD_OUT, len(images) // (_PER_HELD_OUT + 1))
    return images[:-held_out], images[-held_out:]
