"""Scores made to fit labels by as few numbers as there are labels: few images are enough, and little can go wrong."""
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmreuse.errors import DataError
from mmreuse.modularization.structured.closed_head import set_head
from mmreuse.utils.minimise import minimised

#: Keeps the numbers finite where scores tell all labels apart.
_DECAY = 1e-4


@dataclass(frozen=True)
class Offsets:
    """A factor for all scores, and an offset for each label, (labels,)."""
    factor: float
    offsets: Tensor

    @classmethod
    def fit(cls, scores: Tensor, labels: Tensor, steps: int = 100) -> 'Offsets':
        """Minimise the cross-entropy of labels, each of which counts as much as another, however frequent it is.

        A network that sees other images than it was trained on (compressed, darker) is biased to some classes; which
        of two images is more of a class it tells all the same (temperature scaling, Guo et al., 2017, with biases).

        Args:
            scores: (N, labels).
            labels: (N,), each at least once; negative ones are left out.
            steps: Of L-BFGS, at most.

        Raises:
            DataError: A score is not finite, or a label has no images.
        """
        scores, labels = scores.detach().double()[labels >= 0], labels[labels >= 0].to(scores.device)
        counts = labels.bincount(minlength=scores.shape[1])
        if not scores.isfinite().all() or not counts.all():
            raise DataError(f'offsets cannot be fitted: of the labels there are {counts.tolist()} images, each needs '
                            'some, and scores must be finite. Check the labels, and the checkpoint.')
        parameters = [torch.ones((), dtype=torch.float64), torch.zeros(scores.shape[1], dtype=torch.float64)]

        def objective(factor: Tensor, offsets: Tensor) -> Tensor:
            loss = cross_entropy(factor * scores + offsets, labels, 1 / counts.double())
            return loss + _DECAY / 2 * (factor.square() + offsets.square().sum())

        factor, offsets = minimised(objective, [each.to(scores.device) for each in parameters], steps)
        return cls(factor.item(), offsets)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return scores (..., labels) with the factor and the offsets."""
        return self.factor * scores + self.offsets.to(scores)

    @torch.no_grad()
    def put_into(self, network: nn.Module, name: str) -> nn.Module:
        """Make a network's last linear layer, called ``name``, give such scores, in place; return the network."""
        layer = network.get_submodule(name)
        bias = torch.zeros(len(self.offsets)) if layer.bias is None else layer.bias
        return set_head(network, name, self.factor * layer.weight, self(bias.to(layer.weight)))
