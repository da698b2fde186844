"""The metric of several problems at once."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from mmreuse.errors import DataError
from mmreuse.registry import METRICS


@METRICS.register_module()
class ProblemAccuracy(BaseMetric):
    """Accuracy in percent on each problem of a :class:`~mmreuse.datasets.ProblemSet`.

    Gives ``accuracy_1``, ``accuracy_2``, ... and the mean over the problems, ``accuracy``.
    """

    # Not None, which is warned about: the keys stand on their own.
    default_prefix = ''

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Judge one batch.

        Raises:
            DataError: The data samples do not say to which problem they belong.
        """
        if 'problem' not in data_samples[0]:
            raise DataError('ProblemAccuracy: the data samples say no problem. It measures a ProblemSet; '
                            'mmpretrain.Accuracy measures others.')
        self.results.extend([sample['problem'], float(sample['pred_label'].item() == sample['gt_label'].item())]
                            for sample in data_samples)

    def compute_metrics(self, results: list[list[float]]) -> dict[str, float]:
        """Average over the samples of each problem, and over the problems."""
        problems, right = torch.tensor(results, dtype=torch.float64).T
        found = [100 * float(right[problems == problem].mean()) for problem in problems.unique()]
        return dict(accuracy=sum(found) / len(found), **{f'accuracy_{n}': value for n, value in enumerate(found, 1)})
