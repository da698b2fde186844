"""Distil networks from a notebook."""
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.distillation import DistillationReport, Objective, Scoring, plain_scoring
from mmreuse.distillation import distill as distill_network
from mmreuse.distillation.controls import ENSEMBLE, closed_form_heads, starts
from mmreuse.distillation.distill import LEAST_HELD_OUT, agreement
from mmreuse.graph import copy_model
from mmreuse.networks import open_network, record_edit
from mmreuse.networks.references import Reference
from mmreuse.statistics.data import BATCH_SIZE, Data, repeatable
from mmreuse.statistics.passes import image_batches
from mmreuse.utils.configs.methods import MethodLike, options_of
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.tables import Rows, Tabular

#: One of so many images is held out.
_HELD_OUT = 10


@dataclass(frozen=True)
class DistillationResult(Tabular):
    """What :func:`distill` reached.

    Attributes:
        networks: Of the network and its controls: ``network``, ``agreement`` with the sources on held-out images in
            percent, ``cost`` (multiply-accumulates over those of the first source), ``images``, ``steps``, ``seconds``.
        left: Controls that cannot be made, and why.
        reports: What came of each, step by step.
    """
    networks: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    reports: dict[str, DistillationReport] = field(default_factory=dict, repr=False)

    def rows(self) -> Rows:
        """Return one row per network."""
        return self.networks

    def notes(self) -> Sequence[str]:
        """Say which controls cannot be made."""
        return [f'no control {name}: {reason}' for name, reason in self.left.items()]


@options_of(distill_network, without=('steps', 'seed', 'watch'))
def distill(network: Reference, sources: Sequence[Reference], images: Data, *, steps: int = 200,
            teachers: Sequence[MethodLike] | None = None, controls: bool = True, seed: int = 0,
            **options: Any) -> tuple[nn.Module, DistillationResult]:
    """Let a changed network learn from what it was made of, by gradients but without labels.

    ::

        small, result = distill(prune_channels(net, ...), [net], images)
        one, result = distill(merge([a, b], images, heads='concat'), [a, b], images, steps=400)
        print(result)                                # agreement with the sources, beside the same from other starts

    AdamW, 64 images a step; the state that agrees with the sources on most of the held-out images is kept.

    Args:
        network: The changed network, or its file; left as it is.
        sources: What it was made of. Of several, all have the classes of the network, or each has classes of its own,
            which the network scores one after the other, in one output or in one for each source.
        images: As the networks take them, see :func:`mmreuse.statistics.data.batches`; no labels are used. As many are
            read as the steps take, and a tenth of them is held out. Thousands are better than hundreds.
        steps: How many.
        teachers: Names or configs of :data:`mmreuse.registry.TEACHERS`; None for ``'joint'``, the scores of the
            sources, and where these have different classes for ``'surest'``, those of the one that is surest.
        controls: Do the same from random weights, from each source and from their plain average, and solve for heads on
            the features of each source and of all. What is reached there, too, is not owed to the network.
        seed: Of the order of images and of random weights.
        **options: Of :func:`mmreuse.distillation.distill`: ``lr``, ``batch_size``, ``every``, ``weight_decay``.

    Returns:
        tuple: A copy of the network, and what was reached.

    Raises:
        ConfigError: There is no such teacher, or the outputs of the networks do not fit.
        DataError: There are too few images, or the loss is not finite.
    """
    network, sources = open_network(network), [open_network(source).eval() for source in sources]
    pictures, held_out = _split(images, network, steps * options.get('batch_size', BATCH_SIZE))
    image = held_out[:1]
    changed, result = copy_model(network), DistillationResult()

    def scoring(judged: nn.Module) -> Scoring:
        return plain_scoring(judged, sources, image)

    def note(name: str, judged: nn.Module, scoring: Scoring, images: int = 0, steps: int = 0,
             seconds: float = 0.) -> None:
        cost = count_macs(judged, image) / count_macs(sources[0], image)
        result.networks.append(dict(network=name, agreement=agreement(judged, scoring, held_out), cost=cost,
                                    images=images, steps=steps, seconds=seconds))

    def train(name: str, start: nn.Module) -> None:
        report = distill_network(start, Objective(scoring(start), teachers), pictures, held_out, steps=steps, seed=seed,
                                 **options)
        note(name, start, scoring(start), len(pictures), steps, report.seconds)
        result.reports[name] = report

    note('before', network, scoring(network))
    train('distilled', changed)
    if controls:
        named = {f'source {number}': source for number, source in enumerate(sources)}
        for name, start in starts(network, named, seed).items():
            if start is None:
                result.left[name] = 'the weights do not fit the network'
            else:
                train(name, start)
        for name, head in closed_form_heads(named, scoring(network), pictures).items():
            note(name, head, replace(scoring(network), own=head.scores), len(pictures))
        result.networks.append(dict(network=ENSEMBLE, agreement=100., images=0, steps=0, seconds=0., cost=sum(
            count_macs(source, image) for source in sources) / count_macs(sources[0], image)))
    return record_edit(changed.eval(), 'distill', [network, *sources], steps=steps), result


def _split(images: Data, network: nn.Module, wanted: int) -> tuple[Tensor, Tensor]:
    """Images to learn from, as many as are wanted or there are, and held-out ones."""
    found, count = [], 0
    for each, in image_batches(repeatable(images), [network], description='images'):
        found.append(each)
        count += len(each)
        if count >= wanted + max(LEAST_HELD_OUT, wanted // _HELD_OUT):
            break
    pictures = torch.cat(found)
    held_out = max(LEAST_HELD_OUT, len(pictures) // (_HELD_OUT + 1))
    return pictures[:-held_out], pictures[-held_out:]
