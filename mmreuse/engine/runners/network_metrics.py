"""What networks are worth and cost, side by side."""
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from mmreuse.engine.evaluation import evaluate
from mmreuse.models.classifiers import NetworkClassifier
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.cost.latency import measure_latency


def measure_networks(models: Mapping[str, NetworkClassifier], test: Iterable, evaluator: Any,
                     image: Tensor) -> dict[str, float]:
    """Measure networks on the same data, and time them in turns.

    Args:
        models: By the prefix of their metrics.
        test: Loader of the test data.
        evaluator: Config of what is measured there.
        image: One that all take, on their device.

    Returns:
        dict: Of each the metrics of the evaluator, ``parameters``, ``nonzero``, ``macs``, and ``latency_ms`` of the
        image with its 10th and 90th percentile ``latency_ms_low`` and ``latency_ms_high``.
    """
    scores = evaluate(list(models.values()), test, evaluator)
    latencies = measure_latency({name: model.network for name, model in models.items()}, image, repeats=10)
    metrics: dict[str, float] = {}
    for (name, model), own in zip(models.items(), scores, strict=True):
        weights = sum(int(tensor.count_nonzero()) for tensor in model.network.parameters())
        latency = latencies[name]
        facts = dict(own, parameters=count_params(model.network), nonzero=weights,
                     macs=count_macs(model.network, image), latency_ms=1e3 * latency.median,
                     latency_ms_low=1e3 * latency.low, latency_ms_high=1e3 * latency.high)
        metrics |= {f'{name}/{key}' if name else key: value for key, value in facts.items()}
    return metrics
