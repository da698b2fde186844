"""Agreement of a merged network with its sources, on held-out images."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.merging.merged_model import MergedModel
from mmreuse.statistics import batches, image_batches, logits_of
from mmreuse.utils.modes import evaluating

#: Fewer images say too little.
LEAST_IMAGES = 16
#: Every so-manieth image is held out.
_FOLDS = 5


@dataclass(frozen=True, order=True)
class Agreement:
    """Agreement of two networks' decisions; of equal agreement, the smaller divergence is better."""
    share: float  # of images on which the largest score is the same
    divergence: float = field(compare=False)  # mean Kullback-Leibler divergence of the scores, in nats
    _closeness: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, '_closeness', -self.divergence)


@dataclass(frozen=True)
class TaskImages:
    """Unlabelled images of each network's task, which may be the same for all.

    Attributes:
        fit: What mergers measure on, one tensor (N, ...) a network.
        held: What coefficients are chosen on, likewise.
        targets: Logarithms of the network's own scores, (N, classes), on the images that are held out.
    """
    fit: Sequence[Tensor]
    held: Sequence[Tensor]
    targets: Sequence[Tensor]

    @classmethod
    def of(cls, models: Sequence[nn.Module], loader: Iterable, own: Sequence[Iterable] | None,
           samples: int | None) -> 'TaskImages':
        """Read images, and what networks make of those that are held out.

        Args:
            models: The networks.
            loader: Batches of images of all tasks.
            own: Batches of images of each network's own task, in place of those.
            samples: How many images to use of each; None for all.

        Raises:
            ConfigError: There are not as many sets as networks.
            DataError: There are too few images.
        """
        if own is not None and len(own) != len(models):
            raise ConfigError(f'task_images has {len(own)} sets of images for {len(models)} networks: give each its '
                              'own.')
        read = [_read(models[0], loader, samples)] * len(models) if own is None else [
            _read(model, each, samples) for model, each in zip(models, own, strict=True)]
        apart = {id(images): _hold_out(images) for images in read}
        fit, held = zip(*(apart[id(images)] for images in read), strict=True)
        return cls(fit, held, [_scores(model, images)[0] for model, images in zip(models, held, strict=True)])

    def mixture(self, seed: int = 0) -> list[Tensor]:
        """Return batches of images of all tasks, of those that are not held out."""
        images = torch.cat(list({id(each): each for each in self.fit}.values()))
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        return batches(images[order.to(images.device)])

    def joined(self, seed: int = 0) -> tuple[list[Tensor], list[int]]:
        """Return batches of all images, mixed, and the number of the network whose task each is of."""
        each = [torch.cat(parts) for parts in zip(self.fit, self.held, strict=True)]
        owners = torch.cat([torch.full((len(own),), number) for number, own in enumerate(each)])
        order = torch.randperm(len(owners), generator=torch.Generator().manual_seed(seed))
        return batches(torch.cat(each)[order.to(each[0].device)]), owners[order].tolist()

    def agreement(self, merged: nn.Module) -> Agreement:
        """Compare a merged network with each network on the images of its task that are held out.

        Args:
            merged: With an output a network, or one for all. Tasks count alike.
        """
        found = {id(images): _scores(merged, images) for images in {id(each): each for each in self.held}.values()}
        values = []
        for number, (images, target) in enumerate(zip(self.held, self.targets, strict=True)):
            own = found[id(images)][min(number, len(found[id(images)]) - 1)]
            counts = torch.stack([(own.argmax(1) == target.argmax(1)).double().sum(),
                                  (target.exp() * (target - own)).double().sum(),
                                  own.new_tensor(len(own), dtype=torch.float64)])
            all_reduce(counts)
            values.append(counts[:2] / counts[2])
        return Agreement(*torch.stack(values).mean(0).tolist())


def _read(model: nn.Module, loader: Iterable, samples: int | None) -> Tensor:
    images = torch.cat([each for each, in image_batches(loader, [model], samples, 'images of tasks')])
    if len(images) < LEAST_IMAGES:
        raise DataError(f'{len(images)} images are too few to measure mergers on. Give at least {LEAST_IMAGES} of each '
                        'task; some hundred are better.')
    return images


def _hold_out(images: Tensor) -> tuple[Tensor, Tensor]:
    held = torch.arange(len(images), device=images.device) % _FOLDS == _FOLDS - 1
    return images[~held], images[held]


@torch.no_grad()
def _scores(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Return logarithms of the scores of each output, (N, classes)."""
    several = isinstance(model, MergedModel) and model.tails is not None
    with evaluating(model):
        found = [model(batch) for batch in batches(images)]
    outputs = zip(*found, strict=True) if several else [found]
    return [torch.cat([logits_of(each) for each in own]).log_softmax(1) for own in outputs]
