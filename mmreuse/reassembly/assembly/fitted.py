"""Pieces of assembled networks as a training with fitted joints starts from them."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmreuse.graph import copy_model
from mmreuse.reassembly.assembly.assembly import ComponentCache, Step
from mmreuse.reassembly.assembly.joint import Features, Joint
from mmreuse.reassembly.assembly.stitching_init import RIDGE, fit_joint, take_over_stem
from mmreuse.reassembly.zoo.structures import Block, Genotype
from mmreuse.reassembly.zoo.zoo import Preprocess, find_entry
from mmreuse.utils.files.io import state_hash


class FittedCache(ComponentCache):
    """Builds pieces whose stem and stitching layers are fitted in closed form, each behind the pieces in front of it.

    Candidates that begin alike share what was fitted.

    Args:
        images: Batches that they are fitted on, normalised, on ``device``.
        preprocess: How the images were normalised.
        *args: Of :class:`~mmreuse.reassembly.assembly.assembly.ComponentCache`.
        **kwargs: Likewise.
    """

    def __init__(self, images: Sequence[Tensor], preprocess: Preprocess, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.images, self.preprocess = list(images), preprocess

    def facts(self) -> dict[str, Any]:
        """Return everything that a network depends on beside its genotype."""
        return dict(super().facts(), preprocess=repr(self.preprocess),
                    fitted=state_hash({str(number): images for number, images in enumerate(self.images)}))

    def steps(self, genotype: Genotype) -> list[Step]:
        """All pieces of ``genotype``, in order."""
        steps, blocks = super().steps(genotype), iter(genotype.blocks)
        done: list[Step] = []
        for step, following in zip(steps, steps[1:], strict=False):
            joined = following.key[0] == 'block' and step.key[0] in ('stem', 'adapter')
            done.append(self._fitted(done, step, following, next(blocks)) if joined else step)
        return [*done, steps[-1]]

    @torch.no_grad()
    def _fitted(self, before: Sequence[Step], step: Step, following: Step, block: Block) -> Step:
        """Return the stem, or a stitching layer, in front of a block and behind other pieces."""
        key = ('fitted', tuple(each.key for each in before), step.key, following.key)
        if key in self.kept:
            return self.kept[key]
        fitted = copy_model(step)
        fitted.key = key
        stem = step.key[0] == 'stem'
        run = [*before, fitted] if stem else list(before)

        def arrive(images: Tensor) -> Features:
            x, size = images, tuple(images.shape[2:])
            for each in run:
                x, size = each(x, size)
            return x, size, step.layout  # a stem gives maps and gets them

        joint = Joint(arrive, find_entry(self.zoo, block.model), following.module.first,
                      None if stem else fitted.module, self.preprocess, following)
        if stem:
            take_over_stem(joint, fitted.module, self.images[0])
        else:
            fit_joint(joint, self.images, None, RIDGE, shared=False)  # the main process searches
        self.kept.keep(key, fitted, sum(parameter.nbytes for parameter in fitted.parameters()))
        return fitted
