"""Renormalize and calibrate changed networks from a notebook."""
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mmreuse.calibration import CalibrationReport, Source
from mmreuse.calibration import calibrate as calibrate_network
from mmreuse.calibration.images import LEAST_IMAGES
from mmreuse.distillation.comparison import Bench, Comparison, split
from mmreuse.distillation.controls import keep_zeros, starts
from mmreuse.errors import DataError
from mmreuse.graph import copy_model
from mmreuse.networks import open_network
from mmreuse.networks.references import Reference
from mmreuse.renormalization import Choice, apply_renormalizers, find_served
from mmreuse.statistics.data import Data, repeatable
from mmreuse.utils.configs.methods import MethodLike, options_of
from mmreuse.utils.tables import Rows, Tabular, format_rows

_CALIBRATED = 'calibrated'


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
                                    sources=[Source.of(network, end) for end in ends] or None)
    return changed, RenormalizationResult(_changes(network.state_dict(), changed.state_dict()),
                                          found if isinstance(found, Choice) else None)


@dataclass(frozen=True)
class CalibrationResult(Comparison):
    """What :func:`calibrate` reached: of each layer, and of the network beside its controls."""

    @property
    def layers(self) -> CalibrationReport:
        """Return the share of the target's variance that each layer missed before, and misses now."""
        return self.reports[_CALIBRATED]

    def rows(self) -> Rows:
        """Return one row per layer."""
        return self.layers.rows()

    def notes(self) -> Sequence[str]:
        """Set the network beside its controls."""
        return ['', format_rows(self.networks), *super().notes()] if self.networks else []


@options_of(calibrate_network)
def calibrate(network: Reference, sources: Sequence[Reference | Source], images: Data, *, controls: bool = True,
              **options: Any) -> tuple[nn.Module, CalibrationResult]:
    """Refit a changed network to the networks that it was made of: layer by layer, in closed form, without labels.

    ::

        better, result = calibrate(changed, [original], images)
        print(result)       # what each layer missed before and after; agreement with the sources, beside controls

    Weights that are zero stay zero. What :func:`~mmreuse.apis.merge` makes is calibrated there, by
    ``renormalizers=['calibrate']``.

    Args:
        network: The changed network, or its file; left as it is.
        sources: What it was made of, with the same names of modules. Which channels are left of one that had more is
            in the network's record; as :class:`~mmreuse.calibration.Source` where no job has noted it.
        images: See :func:`mmreuse.statistics.data.batches`; a few hundred are enough. For controls a tenth of them, but
            at least 16, is held out; where ``samples`` are asked for, images behind these.
        controls: Do the same from random weights, from each source and from their plain average, with the same zeros,
            and solve for heads on the features of each source and of all. What is reached there, too, is not owed to
            the network. Networks are compared by the classes that they predict, see :func:`~mmreuse.apis.distill`.
        **options: Of :func:`mmreuse.calibration.calibrate`: ``ridge``, ``samples``, ``positions``, ``layers``, ...

    Returns:
        tuple: A refitted copy; and what was reached, layer by layer and beside the controls.

    Raises:
        ConfigError: A number is out of its range, no layer has such a name, there is no source, or the networks have no
            classes to be compared by.
        DataError: There are too few images, or something is not finite.
        TraceError: A network cannot be recorded.
    """
    network = open_network(network)
    sources = [each if isinstance(each, Source) else Source.of(network, open_network(each)) for each in sources]
    changed = copy_model(network)
    if not controls or not sources:  # without a source it is refused
        report = _calibrate(changed, sources, repeatable(images), options)
        return changed, CalibrationResult(reports={_CALIBRATED: report})
    used, held_out = _with_held_out(images, network, options.get('samples'))
    if isinstance(options.get('owners'), Sequence):
        options['owners'] = options['owners'][:len(used)]

    def repair(start: nn.Module) -> tuple[CalibrationReport, dict[str, float]]:
        began = time.perf_counter()
        report = _calibrate(start, sources, repeatable(used), options)
        return report, dict(images=len(used), seconds=time.perf_counter() - began)

    bench = Bench([copy_model(source.model).eval() for source in sources], used, held_out, repair,
                  CalibrationResult())
    bench.note('before', network)
    bench.run(_CALIBRATED, changed)
    ordered = not any(source.plans for source in sources)
    if not ordered:
        bench.result.left['from the sources'] = 'they have features in another order than the network, or more'
    found = starts(network, bench.named if ordered else {}, options.get('seed', 0))
    bench.run_controls(network, {name: start and keep_zeros(start, network) for name, start in found.items()})
    return changed, bench.result


def _calibrate(network: nn.Module, sources: Sequence[Source], images: Data,
               options: Mapping[str, Any]) -> CalibrationReport:
    report, = apply_renormalizers(network, images, [dict(type='calibrate', **options)], sources=sources)
    return report


def _with_held_out(images: Data, network: nn.Module, samples: int | None) -> tuple[Tensor, Tensor]:
    """Return the images to calibrate on, and held-out ones.

    Raises:
        DataError: There are too few for both.
    """
    used, held_out = split(images, network, samples)
    least = LEAST_IMAGES if samples is None else samples
    if len(used) < least:
        raise DataError(f'calibrate: of {len(used) + len(held_out)} images {len(held_out)} are held out to compare '
                        f'the network with its controls, and {least} are needed beside these. Give more images, or set '
                        'controls=False.')
    return used[:samples], held_out


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
