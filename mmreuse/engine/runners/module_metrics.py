"""What the modules of a network are worth, each on its own problem."""
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from mmreuse.modularization.structured.problem import ProblemNetwork, is_structured, problem_of
from mmreuse.modularization.structured.samples import Samples, balanced_accuracy
from mmreuse.networks import modules_of
from mmreuse.statistics import device_of
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.cost.latency import measure_latency


def measure_modules(network: nn.Module, test: Iterable, places: Sequence[int] | None = None
                    ) -> dict[str, dict[str, float]]:
    """Measure the structured modules of a network; those of other kinds are passed over.

    Args:
        network: Scores all classes; most have no modules.
        test: Batches of images, prepared, and labels, of all its classes.
        places: Which of its outputs is that of each label; None where they are the same.

    Returns:
        dict: By module ``accuracy``, the mean recall of its labels in percent; ``original``, that of the network's own
        scores; ``parameters``, ``macs`` and ``latency_ms`` of one image.
    """
    modules = {name: module.to(device_of(network)) for name, module in modules_of(network).items()
               if is_structured(module)}
    if not modules:
        return {}
    images, labels = map(torch.cat, zip(*test, strict=True))
    samples = Samples(images, labels.cpu() if places is None else torch.tensor(places)[labels.cpu()])
    latencies, found = measure_latency(modules, images[:1], repeats=10), {}
    for name, module in modules.items():
        problem = problem_of(module)
        own = samples.of_problem(problem, 1 + max(int(samples.classes.max()), *map(max, problem.groups)))
        accuracies = {key: 100 * balanced_accuracy(each, own, len(problem.labels)) for key, each in (
            ('accuracy', module), ('original', ProblemNetwork(network, problem)))}
        found[name] = dict(accuracies, parameters=count_params(module), macs=count_macs(module, images[:1]),
                           latency_ms=1e3 * latencies[name].median)
    return found
