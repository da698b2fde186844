"""Several networks of one architecture, trained in one run without touching each other."""
import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.state_fit import load_strictly, weights_of


@MODELS.register_module()
class ClassifierPair(BaseModel):
    """Two (or more) classifiers of one architecture as one model of mmengine's Runner.

    A batch for training is as many batches as there are networks, one behind the other, each for its own network
    (:class:`~mmreuse.datasets.samplers.ParallelBatchSampler` makes such batches). The networks share no parameter, and
    optimisers such as SGD treat elements apart, so every network trains as it would alone.

    Args:
        classifier: Config of one network, as an ``ImageClassifier``.
        nets: How many.
        same_init: Whether all start from the weights of the first. Otherwise they are drawn one after the other.
        checkpoints: Of networks to start from, one each.
        data_preprocessor: As in mmengine.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: There are fewer than two networks, or not one checkpoint per network.
    """

    def __init__(
        self,
        classifier: Mapping[str, Any],
        nets: int = 2,
        same_init: bool = False,
        checkpoints: Sequence[str] | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if nets < 2:
            raise ConfigError(f'ClassifierPair: nets={nets}; one net alone is trained as an ImageClassifier.')
        if checkpoints is not None and len(checkpoints) != nets:
            raise ConfigError(f'ClassifierPair: {len(checkpoints)} checkpoints for {nets} nets.')
        self.same_init = same_init
        self.checkpoints = checkpoints
        # Each network prepares images as the pair does, so that it can be measured on its own.
        self.nets = nn.ModuleList(
            MODELS.build(copy.deepcopy({'data_preprocessor': data_preprocessor, **classifier})) for _ in range(nets))

    def init_weights(self) -> None:
        """Initialise the networks, or load the checkpoints that they start from.

        Raises:
            ArtefactError: A checkpoint is missing or of another architecture.
        """
        for net in self.nets:
            net.init_weights()
        if self.same_init:
            for net in self.nets[1:]:
                net.load_state_dict(self.nets[0].state_dict())
        for net, path in zip(self.nets, self.checkpoints or (), strict=False):
            load_strictly(net, weights_of(load_checkpoint(path), path), path)

    def forward(self, inputs: Tensor, data_samples: list | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list:
        """Run the networks.

        Args:
            inputs: (N, C, H, W). For ``mode='loss'`` the networks' own batches one behind the other.
            data_samples: Of the inputs.
            mode: ``'tensor'``: scores of all networks (K, N, classes); ``'loss'``: losses ``loss_1``, ``loss_2``, ...;
                ``'predict'``: the data samples with ``net_scores`` (K, classes).

        Returns:
            Tensor | dict[str, Tensor] | list: See ``mode``.

        Raises:
            DataError: A batch for training cannot be shared out among the networks.
        """
        if mode == 'loss':
            return self._losses(inputs, data_samples)
        scores = torch.stack([net(inputs) for net in self.nets])
        if mode == 'tensor':
            return scores
        for sample, own in zip(data_samples, scores.float().transpose(0, 1), strict=True):
            sample.set_field(own, 'net_scores')
        return data_samples

    def _losses(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        share, rest = divmod(len(inputs), len(self.nets))
        if rest:
            raise DataError(f'ClassifierPair: a batch of {len(inputs)} images for {len(self.nets)} nets. Set '
                            "train_dataloader.batch_sampler=dict(type='ParallelBatchSampler', parts="
                            f'{len(self.nets)}).')
        losses = {}
        for number, net in enumerate(self.nets):
            own = slice(number * share, (number + 1) * share)
            for name, value in net(inputs[own], data_samples[own], mode='loss').items():
                losses[f'{name}_{number + 1}'] = value
        return losses
