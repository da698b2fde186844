"""A plain network as runs and evaluators of mmengine take it."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmreuse.registry import MODELS
from mmreuse.statistics.data import logits_of


class NetworkClassifier(BaseModel):
    """Lets a network, of any library, predict the classes of a data set.

    Args:
        network: From images to scores.
        data_preprocessor: Config of how images are prepared; None leaves them as they are.
        places: Which output is the score of each class; None where no output is. Left out: the outputs are the classes
            in their order.
    """

    def __init__(self, network: nn.Module, data_preprocessor: Mapping[str, Any] | None = None,
                 places: Sequence[int | None] | None = None) -> None:
        prepared = None if not data_preprocessor else MODELS.build(dict(data_preprocessor))
        super().__init__(data_preprocessor=prepared)
        self.network = network
        self.places = places

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None,
                mode: str = 'tensor') -> Tensor | list[DataSample]:
        """Compute scores (B, C), or let data samples say them.

        Args:
            inputs: Images, prepared.
            data_samples: One for each image, to be filled in.
            mode: ``'tensor'`` or ``'predict'``.
        """
        scores = logits_of(self.network(inputs))
        if self.places is not None:
            absent = scores.new_full((len(scores), 1), -torch.inf)
            scores = torch.cat([absent if place is None else scores[:, [place]] for place in self.places], 1)
        if mode == 'tensor':
            return scores
        for sample, own in zip(data_samples, scores, strict=True):
            sample.set_pred_score(own.softmax(0)).set_pred_label(own.argmax())
        return data_samples
