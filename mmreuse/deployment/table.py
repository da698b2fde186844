"""One table of networks on engines: milliseconds, sizes, memory, operations, accuracy."""
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.deployment.export import check_outputs
from mmreuse.deployment.export_network import export
from mmreuse.deployment.latency import time_processes
from mmreuse.deployment.onnx_notes import read_notes
from mmreuse.deployment.process import EngineProcess, require
from mmreuse.errors import ArtefactError, ConfigError, MMReuseError
from mmreuse.graph import fresh_copy
from mmreuse.networks import record_of
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.tables import Rows, Tabular

ENGINES = ('torch', 'onnxruntime', 'openvino', 'deepsparse')


@dataclass(frozen=True)
class DeploymentTable(Tabular):
    """Networks on engines.

    Attributes:
        cells: One row for each network on each engine: ``network``, ``engine``, ``params``, ``macs`` of one image,
            ``file_mb`` of what the engine loads, ``accuracy`` in percent; and for each number of images at once, such
            as 16, the milliseconds of a pass, ``ms_16``, with ``ms_16_low`` and ``ms_16_high``, the 10th and 90th
            percentile, and the peak memory of its process, ``memory_mb_16``. What could not be measured has its reason
            as ``problem``. An engine that is not there is one row without a network.
    """
    cells: list[dict[str, Any]] = field(default_factory=list)

    def rows(self) -> Rows:
        """Return what was measured."""
        measured = [row for row in self.cells if any(key.startswith('ms_') for key in row)]
        return [{key: value for key, value in row.items() if key != 'problem'} for row in measured]

    def notes(self) -> Sequence[str]:
        """Return what was not measured, and why."""
        return [f'{" on ".join(filter(None, (row["network"], row["engine"])))}: {row["problem"]}'
                for row in self.cells if 'problem' in row]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, and the files of it that engines load.

    Attributes:
        name: In the table.
        network: Or an ONNX file, whose network is gone.
        inputs: Two images.
        folder: For the files.
    """
    name: str
    network: nn.Module | Path
    inputs: Tensor
    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Return the columns that hold on every engine."""
        if isinstance(self.network, nn.Module):
            return dict(params=count_params(self.network), macs=count_macs(self.network, self.inputs[:1]))
        return {key: value for key, value in read_notes(self.network).items() if key in ('params', 'macs')}

    @cached_property
    def classes(self) -> list[str]:
        """Return the names of the outputs; none where they are not known."""
        known = record_of(self.network).classes if isinstance(self.network, nn.Module) else \
            read_notes(self.network).get('classes', ())
        return list(map(str, known))

    def file(self, engine: str) -> Path:
        """Return the file that an engine loads.

        Raises:
            ArtefactError: There is none of that kind; an operator that cannot be exported is named.
        """
        if not isinstance(self.network, nn.Module):
            if engine == 'torch':
                raise ArtefactError(f'{self.network.name} is an ONNX file, which PyTorch does not run')
            return self.network
        path = self.folder / ('network.pt2' if engine == 'torch' else 'network.onnx')
        if not path.is_file():
            export(self.network, path, self.inputs)
        return path


def measure_deployment(networks: Mapping[str, nn.Module | Path], images: Tensor, labels: Tensor | None = None, *,
                       engines: Sequence[str] = ENGINES, batches: Sequence[int] = (1, 16), threads: int = 1,
                       rounds: int = 20, passes: int = 5, classes: Sequence[str] = ()) -> DeploymentTable:
    """Measure networks on engines, each network on each engine in a process of its own.

    For each number of images at once all of them take turns, so that a slow second of the machine hits all alike.
    Before it is timed a network is compared with what it computes in PyTorch. PyTorch runs programs of
    ``torch.export``.

    Args:
        networks: By name; or ONNX files, such as those of :func:`~mmreuse.deployment.quantize`.
        images: (N, C, H, W), prepared.
        labels: (N,), for accuracy; None leaves it out.
        engines: Of ``'torch'``, ``'onnxruntime'``, ``'openvino'`` and ``'deepsparse'``.
        batches: Numbers of images at once. Accuracy is that with the last.
        threads: That an engine may use.
        rounds: Of turns.
        passes: That count in a turn.
        classes: Names that labels count, where outputs of the networks may be in another order.

    Returns:
        DeploymentTable: A row for each network on each engine.

    Raises:
        ConfigError: There is no such engine, or a number is out of range.
    """
    if min(threads, rounds, passes, *batches) < 1 or not set(engines) <= set(ENGINES):
        raise ConfigError(f'engines={list(engines)} must be of {", ".join(ENGINES)}; threads={threads}, '
                          f'rounds={rounds}, passes={passes} and batches={list(batches)} at least 1.')
    table, present = DeploymentTable(), []
    for engine in engines:
        try:
            require(engine)
            present.append(engine)
        except ConfigError as error:
            table.cells.append(dict(network='', engine=engine, problem=str(error)))
    with TemporaryDirectory() as folder:
        cells = []
        for number, (name, network) in enumerate(networks.items()):
            network = fresh_copy(network).cpu().eval() if isinstance(network, nn.Module) else network
            subject = Subject(name, network, _first(images, 2), Path(folder, str(number)))
            cells += [_Cell(subject, engine, threads) for engine in present]
        for batch in batches:
            judged = (images, labels, classes) if batch == batches[-1] and labels is not None else None
            _measure(cells, _first(images, batch), rounds, passes, judged)
    table.cells[:0] = [cell.row for cell in cells]
    return table


class _Cell:
    """A network on an engine, and its row."""

    def __init__(self, subject: Subject, engine: str, threads: int) -> None:
        self.subject, self.engine, self.threads = subject, engine, threads
        self.row: dict[str, Any] = dict(network=subject.name, engine=engine, **subject.facts)

    def load(self, images: Tensor) -> EngineProcess:
        """Start the process, and compare what it computes with PyTorch.

        Raises:
            MMReuseError: The network has no file for the engine, or does not run there.
        """
        file = self.subject.file(self.engine)
        self.row['file_mb'] = file.stat().st_size / 1e6
        process = EngineProcess(self.engine, file, [images.numpy()], self.threads)
        if isinstance(self.subject.network, nn.Module):
            check_outputs(process.outputs(), self.subject.network, (images,), f"engine '{self.engine}'")
        return process

    def judge(self, process: EngineProcess, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        """Note the accuracy.

        Raises:
            ConfigError: The network does not know all classes.
        """
        scores, own = process.over(images.numpy()), self.subject.classes
        if own and classes:
            if absent := [name for name in classes if name not in own]:
                raise ConfigError(f"has no output for the class '{absent[0]}': give data of its classes")
            scores = scores[:, [own.index(name) for name in classes]]
        elif scores.shape[1] <= int(labels.max()):
            raise ConfigError(f'has {scores.shape[1]} outputs, and labels go up to {int(labels.max())}: give data '
                              'of its classes')
        self.row |= dict(accuracy=100 * float((scores.argmax(1) == labels.numpy()).mean()), images=len(labels))


def _measure(cells: Sequence[_Cell], images: Tensor, rounds: int, passes: int,
             judged: tuple[Tensor, Tensor, Sequence[str]] | None) -> None:
    """Time all cells in turns on these images; judge them on others."""
    batch = len(images)
    with ExitStack() as stack:
        running = {}
        for cell in (each for each in cells if 'problem' not in each.row):
            try:
                running[cell] = cell.load(images)
                stack.callback(running[cell].close)
            except MMReuseError as error:
                cell.row['problem'] = str(error)
        for cell, found in time_processes(running, rounds=rounds, passes=passes).items():
            cell.row |= {f'ms_{batch}': 1e3 * found.median, f'ms_{batch}_low': 1e3 * found.low,
                         f'ms_{batch}_high': 1e3 * found.high}
        for cell, process in running.items():
            if memory := process.peak_memory():
                cell.row[f'memory_mb_{batch}'] = memory / 1e6
            try:
                if judged is not None:
                    cell.judge(process, *judged)
            except MMReuseError as error:
                cell.row['problem'] = str(error)


def _first(images: Tensor, count: int) -> Tensor:
    """Return so many images, from the first one on again where there are fewer."""
    return images[torch.arange(count) % len(images)]
