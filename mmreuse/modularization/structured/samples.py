"""Images of target problems, and what networks say of them."""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmreuse.modularization.report import recalls
from mmreuse.modularization.structured.problem import Problem
from mmreuse.statistics import Data, all_labelled, device_of, logits_of
from mmreuse.utils.class_split import balanced_order
from mmreuse.utils.modes import evaluating


@dataclass(frozen=True, eq=False)
class Samples:
    """Images (N, ...), prepared, and their classes (N,)."""
    images: Tensor
    classes: Tensor

    @classmethod
    def of(cls, data: Data, model: nn.Module, what: str = 'data') -> 'Samples':
        """Read data as a network takes them.

        Raises:
            DataError: There are none.
        """
        return cls(*all_labelled(data, model, f'modularize_channels: {what}'))

    def of_problem(self, problem: Problem, count: int, most: int | None = None, seed: int = 0) -> 'Samples':
        """Return images with the labels of a problem; of the rest as many as of the class, evenly of its classes.

        Args:
            problem: The problem.
            count: Classes of the network.
            most: About how many, evenly of the labels; None for all.
            seed: Of the choice.
        """
        labels = problem.table(count)[self.classes]
        limit = len(labels) if most is None else -(-most // len(problem.labels))
        if problem.rest:
            limit = min(limit, int((labels == 0).sum()))
        chosen = []
        for label in range(len(problem.labels)):
            own = (labels == label).nonzero()[:, 0]
            order = own[torch.from_numpy(balanced_order(self.classes[own].numpy(), seed))]
            chosen.append(order[:limit])
        places = torch.cat(chosen)
        return Samples(self.images[places.to(self.images.device)], labels[places])


@torch.no_grad()
def scores_on(network: nn.Module, images: Tensor) -> Tensor:
    """Return the scores (N, labels) of images, on the CPU."""
    with evaluating(network):
        return torch.cat([logits_of(network(part.to(device_of(network)))).cpu() for part in images.split(256)])


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Return the label of every image, (N,), on the CPU."""
    return scores_on(network, images).argmax(1)


def balanced_accuracy(network: nn.Module, samples: Samples, labels: int) -> float:
    """Return the mean recall of a module's labels, in [0, 1]."""
    return sum(recalls(predict(network, samples.images), samples.classes, labels)) / labels
