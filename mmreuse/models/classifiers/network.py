"""A plain network as runs and evaluators of mmengine take it."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.networks import open_network, record_of
from mmreuse.networks.references import Reference
from mmreuse.registry import MODELS
from mmreuse.statistics.data import logits_of


@MODELS.register_module()
class NetworkClassifier(BaseModel):
    """Lets a network, of any library, predict the classes of a data set.

    Args:
        network: From images to scores; or a reference of :func:`mmreuse.networks.open_network`, such as the path of a
            network file.
        data_preprocessor: Config of how images are prepared; None leaves them as they are, or as a file says.
        places: Which output is the score of each class; None where no output is. Left out: the outputs are the classes
            in their order.
    """

    def __init__(self, network: Reference, data_preprocessor: Mapping[str, Any] | None = None,
                 places: Sequence[int | None] | None = None) -> None:
        if not isinstance(network, nn.Module):
            network = open_network(network)
            known = record_of(network).preprocessing
            data_preprocessor = data_preprocessor or (known if 'type' in known else None)
        prepared = None if not data_preprocessor else MODELS.build(dict(data_preprocessor))
        super().__init__(data_preprocessor=prepared)
        self.network = network
        self.places = places

    @property
    def input_size(self) -> tuple[int, ...]:
        """Return shape (C, H, W) of an image.

        Raises:
            ConfigError: The network does not say.
        """
        inputs = record_of(self.network).inputs
        if not inputs:
            raise ConfigError(f'it is not known what {type(self.network).__name__} takes. Save the network with '
                              'inputs=, such as one image.')
        return tuple(inputs[0][0][1:])

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
