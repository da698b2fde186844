"""Accuracy of a module beside cheaper baselines."""
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from mmreuse.utils.tables import Rows, Tabular

logger = logging.getLogger(__name__)

#: A network, or its module, that is no further above chance tells labels apart badly, if at all.
_NEAR_CHANCE = 0.1


@dataclass(frozen=True)
class ModuleReport(Tabular):
    """Recalls of a module and its baselines."""
    labels: tuple[str, ...]  # of the target problem
    recalls: dict[str, tuple[float, ...]]  # by method: original, head only, module; in [0, 1], by label
    ratio: float  # share of the weights that the module keeps
    samples: int  # that were measured
    measured_on: str  # 'validation data' or 'training data'
    constant: bool  # whether the module says the same of all samples

    def accuracy(self, method: str = 'module') -> float:
        """Return the mean of the recalls, so that chance is one over the number of labels whatever their shares are."""
        return fmean(self.recalls[method])

    def rows(self) -> Rows:
        """Return the recalls of each method in percent."""
        return [dict(method=method, balanced=f'{100 * self.accuracy(method):.1f}',
                     **{label: f'{100 * value:.1f}' for label, value in zip(self.labels, values, strict=True)})
                for method, values in self.recalls.items()]

    def notes(self) -> Sequence[str]:
        """Give the share of weights that the module keeps."""
        return [f'{100 * self.ratio:.1f} % of the weights; recall in percent on {self.samples} samples of the '
                f'{self.measured_on}']

    def warn(self) -> None:
        """Log a warning where the module is near chance, or has lost most of what the whole network can."""
        chance, head, own = 1 / len(self.labels), self.accuracy('head only'), self.accuracy()
        said = (f'balanced accuracy on the {self.measured_on}: module {own:.1%}, a head on the whole network '
                f'{head:.1%}, chance {chance:.1%}')
        if head < chance + _NEAR_CHANCE:
            logger.warning('The network itself hardly tells %s apart (%s). Check its checkpoint, the labels, and that '
                           'images are prepared as in its training.', ' and '.join(self.labels), said)
        elif self.constant:
            logger.warning('The module is constant, it says the same of every image (%s). Keep more of the weights '
                           '(ratio), train longer (epochs), or lower the learning rate of the masks (lr).', said)
        elif own - chance < (head - chance) / 2:
            logger.warning('The module has lost most of what the whole network can (%s). Keep more of the weights '
                           '(ratio), train longer (epochs), or give more data.', said)


@dataclass(frozen=True)
class ModulesReport(Tabular):
    """Modules of several problems of one network beside their baselines."""
    reports: dict[str, ModuleReport]  # by problem

    def rows(self) -> Rows:
        """Return one row per problem: means of recalls in percent, and the share of the weights."""
        return [dict(problem=name, **{method: f'{100 * report.accuracy(method):.1f}' for method in report.recalls},
                     weights=f'{100 * report.ratio:.1f} %') for name, report in self.reports.items()]

    def notes(self) -> Sequence[str]:
        """Say what was measured."""
        first = next(iter(self.reports.values()))
        return [f'mean of the recalls of all labels in percent, on the {first.measured_on}']


def recalls(predicted: Tensor, labels: Tensor, count: int) -> tuple[float, ...]:
    """Share of the samples of each of ``count`` labels that is predicted right.

    Args:
        predicted: (N,).
        labels: (N,), each at least once.
        count: Of labels.
    """
    return tuple(float((predicted[labels == label] == label).double().mean()) for label in range(count))


def report_of(predictions: Mapping[str, Tensor], labels: Tensor, names: Sequence[str], ratio: float,
              measured_on: str) -> ModuleReport:
    """Compare predictions with labels.

    Args:
        predictions: (N,), by method, ``'module'`` and ``'head only'`` among them.
        labels: (N,).
        names: Of the labels.
        ratio: Share of the weights that the module keeps.
        measured_on: Which samples.
    """
    own = predictions['module']
    return ModuleReport(tuple(names), {method: recalls(each, labels, len(names))
                                       for method, each in predictions.items()}, ratio, len(labels), measured_on,
                        bool((own == own[0]).all()))
