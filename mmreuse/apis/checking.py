"""Tell what can be done with a network, before anything is done."""
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mmreuse.errors import MMReuseError
from mmreuse.graph import cut_points, repaired
from mmreuse.merging import stop_points
from mmreuse.networks import create
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.tables import Rows, Tabular


@dataclass
class CheckReport(Tabular):
    """What can be done with a network.

    Attributes:
        name: Of the network.
        parameters: How many it has.
        macs: Multiply-accumulates for one image.
        seconds: Of tracing it and of the proof.
        held: What can move and what holds the rest, with operation, line and reason.
        jobs: By job, what it can do.
        error: Why it cannot be followed at all.
    """
    name: str
    parameters: int
    macs: int | None = None
    seconds: float = 0.
    held: str = ''
    jobs: Mapping[str, str] = field(default_factory=dict)
    error: str = ''

    def rows(self) -> Rows:
        """Return one row for each job."""
        return [dict(job=name, result=text) for name, text in self.jobs.items()]

    def notes(self) -> Sequence[str]:
        """Say what holds the network back, and what it took to find out."""
        cost = '' if self.macs is None else f', {self.macs / 1e6:,.1f} M multiply-accumulates an image'
        return [f'{self.name}: {self.parameters / 1e6:.2f} M parameters{cost}; traced and proved in '
                f'{self.seconds:.1f} s.', *filter(None, [self.held, self.error])]


def check(network: nn.Module | str, input_size: Sequence[int] = (3, 224, 224), **options: Any) -> CheckReport:
    """Trace a network, prove its feature spaces, and tell what each job can do with it.

    Args:
        network: A network, or a name that :func:`mmreuse.create` takes: ``'timm:resnet18'``, ``'net.py:make'``.
        input_size: Channels, height and width of an image.
        **options: Of the name.

    Returns:
        CheckReport: What was found; a network that cannot be followed is no error, but says why.

    Raises:
        ArtefactError: There is no network of that name.
    """
    name = network if isinstance(network, str) else type(network).__name__
    network = create(network, **options) if isinstance(network, str) else network
    image, started = torch.zeros(1, *input_size), time.perf_counter()
    report = CheckReport(name, count_params(network))
    try:
        graph = repaired(network.eval(), image)
        graph.verify()
        stops, cuts = stop_points(graph), cut_points(graph)
    except MMReuseError as error:
        report.error = str(error)
    else:
        report.macs, report.held = count_macs(network, image), graph.report()
        report.jobs = _jobs(graph.share, len(graph.spaces), [stop.name for stop in stops], [cut.name for cut in cuts])
    report.seconds = time.perf_counter() - started
    return report


def _jobs(share: float, spaces: int, stops: Sequence[str], cuts: Sequence[str]) -> dict[str, str]:
    held = 'no: nothing in it can move'
    moves = f'{share:.0%} of the parameters, in {spaces} feature spaces'
    return {
        'merge': f'yes: {moves}; whole, or up to {len(stops)} places ({_some(stops)})' if spaces else held,
        'prune': f'yes: channels of {moves}' if spaces else held,
        'modularize': f'yes: channels of {moves}; element masks of all layers' if spaces else 'element masks only',
        'calibrate': 'yes: linear and convolutional layers, norms behind them',
        'distill': 'yes',
        'reassemble': f'yes: {len(cuts)} places to cut at ({_some(cuts)})' if cuts else
        'no: nowhere one tensor crosses',
    }


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if names[3:] else '')
