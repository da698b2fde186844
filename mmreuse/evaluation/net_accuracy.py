"""The metric of networks that are trained in one run."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch.nn.functional import cross_entropy

from mmreuse.errors import DataError
from mmreuse.registry import METRICS


@METRICS.register_module()
class NetAccuracy(BaseMetric):
    """Accuracy in percent, and cross-entropy, of every network of a :class:`~mmreuse.models.ClassifierPair`.

    Reads ``gt_label`` and ``net_scores`` (K, C) from every data sample. Gives ``accuracy_1``, ``cross_entropy_1``, ...
    and the mean over the networks, ``accuracy``.
    """

    # Not None, which is warned about: the keys stand on their own.
    default_prefix = ''

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Judge one batch; keep one row per sample, as the gathering over processes drops repeated samples.

        Raises:
            DataError: Data samples carry no ``net_scores``.
        """
        if 'net_scores' not in data_samples[0]:
            raise DataError('NetAccuracy: the data samples carry no net_scores. It measures ClassifierPair; '
                            'mmpretrain.Accuracy measures others.')
        scores = torch.stack([sample['net_scores'] for sample in data_samples])
        labels = torch.cat([sample['gt_label'] for sample in data_samples]).to(scores.device)
        right = scores.argmax(2) == labels[:, None]
        losses = cross_entropy(scores.transpose(1, 2), labels[:, None].expand(-1, scores.shape[1]), reduction='none')
        self.results.extend(torch.cat([right.float(), losses], dim=1).tolist())

    def compute_metrics(self, results: list[list[float]]) -> dict[str, float]:
        """Average rows of hits and losses, one of each for every network."""
        right, losses = torch.tensor(results, dtype=torch.float64).mean(0).chunk(2)
        metrics = {f'accuracy_{number}': 100 * float(value) for number, value in enumerate(right, 1)}
        # Not called loss: of what bears that word, mmengine logs the mean over the last validations.
        metrics |= {f'cross_entropy_{number}': float(value) for number, value in enumerate(losses, 1)}
        return {'accuracy': 100 * float(right.mean()), **metrics}
