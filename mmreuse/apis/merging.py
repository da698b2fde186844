"""Merge networks from a notebook."""
from collections.abc import Sequence
from typing import Any

import torch

from mmreuse.apis.data import Data, batches
from mmreuse.errors import DataError
from mmreuse.merging import MergedModel
from mmreuse.merging import merge as merge_models
from mmreuse.merging.matching.match_spaces import Matcher
from mmreuse.merging.shared.merge_shared import Mergers
from mmreuse.networks import open_network
from mmreuse.networks.references import Reference
from mmreuse.statistics.bn import measured_norms
from mmreuse.statistics.passes import images_of
from mmreuse.utils.configs.methods import MethodLike


def merge(models: Sequence[Reference], data: Data, matcher: Matcher = 'zip', *,
          merger: Mergers | None = None, base: Reference | None = None, task_images: Sequence[Data] | None = None,
          renormalizers: Sequence[MethodLike] | None = None,
          validation: Data | None = None, **options: Any) -> MergedModel:
    """Merge trained classifiers of one architecture without training, whatever library they come from.

    ::

        nets = [timm.create_model('resnet18', pretrained=True), my_resnet18]
        tasks = merge(nets, images)                      # one network, one head and output for each net's classes
        one = merge(nets, images, heads='concat')        # one output that scores the classes of all nets
        mean = merge(nets, images, heads='merge')        # nets of the same classes: their heads are averaged as well
        trunk_and_tails = merge(nets, images, stop=0.5)  # shares the first half of the layers
        tuned = merge(nets, images, merger='ties', base=pretrained)  # nets that were fine-tuned from one network

    Heads that were trained apart are never averaged unless that is asked for, or ``class_names`` says that they mean
    the same.

    Args:
        models: Two or more, or their files; left as they are.
        data: Images as the models take them: a tensor (N, C, H, W), a data set of images or (image, label), or
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
        MergedModel: An ordinary module. Its output is one tensor, or one for each model where heads are kept by task.

    Raises:
        ConfigError: A renormalizer chooses, and has nothing to choose by.
        DataError: There are no images, or too few.
        SpaceError: The models differ where they are merged, or a place is unknown.
    """
    models, loader = [open_network(model) for model in models], batches(data)
    if renormalizers is None:
        renormalizers = ('reset',) if measured_norms(models[0]) else ()
    first = next(iter(loader), None)
    if first is None:
        raise DataError('there are no images to merge on.')
    inputs = torch.zeros_like(images_of(first, models[0])[:1])
    return merge_models(models, loader, matcher, inputs=inputs, renormalizers=renormalizers, merger=merger,
                        base=None if base is None else open_network(base),
                        task_images=None if task_images is None else [batches(each) for each in task_images],
                        validation=None if validation is None else batches(validation), **options)
