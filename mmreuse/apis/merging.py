"""Merge networks from a notebook."""
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mmreuse.errors import DataError
from mmreuse.merging import MergedModel
from mmreuse.merging import merge as merge_networks
from mmreuse.merging.matching.match_spaces import Matcher
from mmreuse.merging.shared.merge_shared import Mergers
from mmreuse.networks import open_network
from mmreuse.networks.references import Reference
from mmreuse.statistics.bn import measured_norms
from mmreuse.statistics.data import Data, repeatable
from mmreuse.statistics.passes import images_of
from mmreuse.utils.configs.methods import MethodLike, options_of
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.tables import Rows, Tabular


@dataclass(frozen=True)
class MergeResult(Tabular):
    """Costs of a merged network and of its sources, and the similarity of the features that were joined.

    Attributes:
        method: Name of the matcher or merger.
        costs: Parameters, and multiply-accumulates of one image, by network.
        scores: Mean similarity of the features that were joined, by feature space; where it was measured.
    """
    method: str
    costs: dict[str, dict[str, int]]
    scores: dict[str, float] = field(repr=False)

    def rows(self) -> Rows:
        """Return one row per network."""
        return [dict(network=name, **cost) for name, cost in self.costs.items()]

    def notes(self) -> Sequence[str]:
        """Give the similarity of the features."""
        if not self.scores:
            return [f'merged by {self.method}']
        worst = min(self.scores, key=self.scores.get)
        return [f'merged by {self.method}: mean similarity {sum(self.scores.values()) / len(self.scores):.3f} over '
                f'{len(self.scores)} feature spaces, at least {self.scores[worst]:.3f} ({worst})']


@options_of(merge_networks, without=('inputs', 'merger', 'base', 'task_images', 'renormalizers', 'validation'))
def merge(networks: Sequence[Reference], data: Data, matcher: Matcher = 'zip', *,
          merger: Mergers | None = None, base: Reference | None = None, task_images: Sequence[Data] | None = None,
          renormalizers: Sequence[MethodLike] | None = None,
          validation: Data | None = None, **options: Any) -> tuple[MergedModel, MergeResult]:
    """Merge trained classifiers of one architecture without training, whatever library they come from.

    ::

        networks = [timm.create_model('resnet18', pretrained=True), my_resnet18]
        tasks, result = merge(networks, images)             # a head and an output for the classes of each network
        one, result = merge(networks, images, heads='concat')   # one output that scores the classes of all
        mean, result = merge(networks, images, heads='merge')   # of the same classes: heads are averaged as well
        trunk, result = merge(networks, images, stop=0.5)   # shares the first half of the layers
        tuned, result = merge(networks, images, merger='ties', base=pretrained)   # fine-tuned from one network
        print(result)                                       # costs, and how alike the features were

    Heads that were trained apart are never averaged unless that is asked for, or ``class_names`` says that they mean
    the same.

    Args:
        networks: Two or more, or their files; left as they are.
        data: Images as the networks take them: a tensor (N, C, H, W), a data set of images or (image, label), or
            batches. No labels are used; a few hundred images are enough, and they need not be of the task.
        matcher: Name, config or function of :data:`mmreuse.registry.MATCHERS`.
        merger: In place of the matcher, where networks share an initialisation: name, config or function of
            :data:`mmreuse.registry.MERGERS`, or several to choose from.
        base: What they were fine-tuned from, or its file.
        task_images: Images of each network's own task, in place of ``data``, for what the merger measures and chooses.
        renormalizers: Names, configs or functions of :data:`mmreuse.registry.RENORMALIZERS`; None: ``'reset'`` where
            there are batch norms.
        validation: Images and labels, not of the test set, for renormalizers that choose (``'auto'``).
        **options: Of :func:`mmreuse.merging.merge`: ``heads``, ``class_names``, ``stop``, ``start``, ``samples``,
            ``refit``, ``overrides``, ``scale``, ...

    Returns:
        tuple: An ordinary module, whose output is one tensor, or one for each network where heads are kept by task; and
        what it costs.

    Raises:
        ConfigError: A renormalizer chooses, and has nothing to choose by.
        DataError: There are no images, or too few.
        SpaceError: The networks differ where they are merged, or a place is unknown.
    """
    networks, loader = [open_network(network) for network in networks], repeatable(data)
    if renormalizers is None:
        renormalizers = ('reset',) if networks and measured_norms(networks[0]) else ()
    first = next(iter(loader), None)
    if first is None:
        raise DataError('there are no images to merge on.')
    inputs = torch.zeros_like(images_of(first, networks[0])[:1])
    merged = merge_networks(networks, loader, matcher, inputs=inputs, renormalizers=renormalizers, merger=merger,
                            base=None if base is None else open_network(base),
                            task_images=None if task_images is None else list(map(repeatable, task_images)),
                            validation=None if validation is None else repeatable(validation), **options)
    costs = {name: dict(parameters=count_params(network), macs=count_macs(network, inputs)) for name, network in
             {**{f'source {number}': each for number, each in enumerate(networks, 1)}, 'merged': merged}.items()}
    return merged, MergeResult(merged.method, costs, merged.scores)
