"""Distil networks from a notebook."""
from collections.abc import Sequence
from typing import Any

from torch import nn

from mmreuse.distillation import DistillationReport, Objective
from mmreuse.distillation import distill as distill_network
from mmreuse.distillation.comparison import Bench, Comparison, split
from mmreuse.distillation.controls import starts
from mmreuse.distillation.objective import followed
from mmreuse.graph import copy_model
from mmreuse.networks import open_network, record_edit
from mmreuse.networks.references import Reference
from mmreuse.statistics.data import BATCH_SIZE, Data
from mmreuse.utils.configs.methods import MethodLike, options_of


@options_of(distill_network, without=('steps', 'seed', 'watch', 'goals'))
def distill(network: Reference, sources: Sequence[Reference], images: Data, *, steps: int = 200,
            teachers: Sequence[MethodLike] | None = None, controls: bool = True, seed: int = 0,
            **options: Any) -> tuple[nn.Module, Comparison]:
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
            ``'features'`` are those of layers, of what the network's record leads to.
        controls: Do the same from random weights, from each source and from their plain average, and solve for heads on
            the features of each source and of all. What is reached there, too, is not owed to the network.
        seed: Of the order of images and of random weights.
        **options: Of :func:`mmreuse.distillation.distill`: ``lr``, ``batch_size``, ``every``, ``views``, ``amp``, ...

    Returns:
        tuple: A copy of the network, and what was reached.

    Raises:
        ConfigError: There is no such teacher, or the outputs of the networks do not fit.
        DataError: There are too few images, or the loss is not finite.
    """
    network, sources = open_network(network), [open_network(source).eval() for source in sources]
    known = followed(network, sources)
    used, held_out = split(images, network, steps * options.get('batch_size', BATCH_SIZE))

    def repair(start: nn.Module) -> tuple[DistillationReport, dict[str, float]]:
        report = distill_network(start, Objective(bench.scoring(start), teachers, start, known), used, held_out,
                                 steps=steps, seed=seed, **options)
        return report, dict(images=len(used), steps=steps, seconds=report.seconds)

    changed, bench = copy_model(network), Bench(sources, used, held_out, repair, Comparison())
    bench.note('before', network)
    bench.run('distilled', changed)
    if controls:
        bench.run_controls(network, starts(network, bench.named, seed))
    return record_edit(changed.eval(), 'distill', [network, *sources], steps=steps), bench.result
