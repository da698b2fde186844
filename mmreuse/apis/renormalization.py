"""Renormalize and calibrate changed networks from a notebook."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mmreuse.calibration import CalibrationReport, Source
from mmreuse.calibration import calibrate as calibrate_network
from mmreuse.graph import copy_model
from mmreuse.networks import open_network
from mmreuse.networks.references import Reference
from mmreuse.renormalization import Choice, apply_renormalizers, find_served
from mmreuse.statistics.data import Data, repeatable
from mmreuse.utils.configs.methods import MethodLike, options_of
from mmreuse.utils.tables import Rows, Tabular


@dataclass(frozen=True)
class RenormalizationResult(Tabular):
    """Changes that a renormalizer made, layer by layer.

    Attributes:
        changes: By name of a tensor: norm of its change over its own norm; of what was zero before or is new, its norm.
        choice: What was chosen, where the renormalizer chooses.
    """
    changes: dict[str, float]
    choice: Choice | None = field(default=None, repr=False)

    def rows(self) -> Rows:
        """Return one row per layer, one column per kind of tensor."""
        layers: dict[str, dict[str, float]] = {}
        for key, change in self.changes.items():
            layer, _, kind = key.rpartition('.')
            layers.setdefault(layer, {})[kind] = change
        return [dict(layer=layer, **kinds) for layer, kinds in layers.items()]

    def notes(self) -> Sequence[str]:
        """Count the changed layers, and name the choice."""
        chosen = [] if self.choice is None else [f'chosen: {self.choice.name}, of ' + ', '.join(
            f'{name} {score:.4g}' for name, score in self.choice.scores.items())]
        return [f'{len(self.rows())} layers changed; relative change of their tensors', *chosen]


def renormalize(network: Reference, images: Data, *, method: MethodLike = 'repair', sources: Sequence[Reference] = (),
                samples: int | None = None, validation: Data | None = None) -> tuple[nn.Module, RenormalizationResult]:
    """Correct the activation statistics of a merged or pruned network, without training.

    ::

        better, result = renormalize(sparse, images, sources=[dense])   # means and deviations of the dense network's
        better, result = renormalize(merged, images, method='reset')    # new statistics for the batch norms alone

    Args:
        network: The changed network, or its file; left as it is.
        images: See :func:`mmreuse.statistics.data.batches`; a few hundred are enough.
        method: Name, config or function of :data:`mmreuse.registry.RENORMALIZERS`.
        sources: Networks with the wanted statistics, of the same structure and in the same order of features: the dense
            one of a pruned network. What was merged by :func:`~mmreuse.apis.merge` is renormalized there.
        samples: How many images are used; None for all.
        validation: Labelled images, not of the test set, for renormalizers that choose.

    Returns:
        tuple: A corrected copy, and what was changed.

    Raises:
        ConfigError: There is no such method, or it lacks sources or validation data.
        SpaceError: The networks differ in structure, or lack the layers that the method corrects.
        DataError: There are too few images, or features are not finite.
    """
    network, loader = open_network(network), repeatable(images)
    validation = None if validation is None else repeatable(validation)
    methods = find_served(method, loader, validation)
    ends, changed = [open_network(source) for source in sources], copy_model(network)
    found, *_ = apply_renormalizers(changed, loader, methods, samples=samples, validation=validation, ends=ends or None,
                                    sources=list(map(Source, ends)) or None)
    return changed, RenormalizationResult(_changes(network.state_dict(), changed.state_dict()),
                                          found if isinstance(found, Choice) else None)


@options_of(calibrate_network)
def calibrate(network: Reference, sources: Sequence[Reference | Source], images: Data,
              **options: Any) -> tuple[nn.Module, CalibrationReport]:
    """Refit a changed network to the networks that it was made of: layer by layer, in closed form, without labels.

    ::

        better, report = calibrate(changed, [original], images)
        print(report)                               # what each layer missed of its target, before and after

    Weights that are zero stay zero. What :func:`~mmreuse.apis.merge` and :func:`~mmreuse.pruning.prune_channels` make
    is calibrated there, by ``renormalizers=['calibrate']``.

    Args:
        network: The changed network, or its file; left as it is.
        sources: What it was made of, with the same names of modules; as :class:`~mmreuse.calibration.Source` where the
            features are in another order, or there are fewer.
        images: See :func:`mmreuse.statistics.data.batches`; a few hundred are enough.
        **options: Of :func:`mmreuse.calibration.calibrate`: ``ridge``, ``samples``, ``positions``, ``layers``, ...

    Returns:
        tuple: A refitted copy; and, layer by layer, the share of the target's variance that it missed before and
        misses now.

    Raises:
        ConfigError: A number is out of its range, no layer has such a name, or there is no source.
        DataError: There are too few images, or something is not finite.
        TraceError: A network cannot be recorded.
    """
    changed = copy_model(open_network(network))
    sources = [each if isinstance(each, Source) else Source(open_network(each)) for each in sources]
    report, = apply_renormalizers(changed, repeatable(images), [dict(type='calibrate', **options)], sources=sources)
    return changed, report


def _changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the relative change of every tensor that changed, by name."""
    found = {}
    for key, tensor in after.items():
        if not tensor.is_floating_point() or key in before and tensor.equal(before[key]):
            continue
        known = before.get(key)
        size = 0. if known is None else known.double().norm()
        change = tensor.double() if known is None else tensor.double() - known.double()
        found[key] = float(change.norm() / (size or 1.))
    return found
