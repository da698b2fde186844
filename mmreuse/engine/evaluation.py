"""Evaluate several models in one pass over the data."""
import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import autocast
from torch import nn
from torch.utils.data import DataLoader


@torch.no_grad()
def evaluate(models: Sequence[nn.Module], loader: DataLoader, evaluator: Any,
             half: bool = False) -> list[dict[str, float]]:
    """Return the metrics of each model.

    Args:
        models: Of mmengine, in evaluation mode.
        loader: Of the test data.
        evaluator: Its config, of which every model gets one; a built one is for a single model.
        half: In half precision.
    """
    if isinstance(evaluator, Evaluator):
        evaluators = [evaluator]
    else:
        config = evaluator.to_dict() if hasattr(evaluator, 'to_dict') else evaluator
        evaluators = [Evaluator(copy.deepcopy(config)) for _ in models]
        for each in evaluators:
            each.dataset_meta = getattr(loader.dataset, 'metainfo', None)
    with autocast(enabled=half):
        for batch in loader:
            for model, each in zip(models, evaluators, strict=True):
                # A model marks the samples with what it predicts.
                own = copy.copy(batch)
                own['data_samples'] = [sample.clone() for sample in batch['data_samples']]
                each.process(data_samples=model.test_step(own), data_batch=own)
    size = len(loader.dataset)
    return [{key: float(value) for key, value in each.evaluate(size).items()} for each in evaluators]
