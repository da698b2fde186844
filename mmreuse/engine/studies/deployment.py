"""What deployment asks of trained networks: int8 files, and one table of networks on engines."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from mmreuse.deployment.table import DeploymentTable, measure_deployment
from mmreuse.engine.classifiers import plain
from mmreuse.engine.configs.data_check import classes_of
from mmreuse.engine.configs.job_config import reference_of, trust_own
from mmreuse.engine.run_config import configured
from mmreuse.errors import ConfigError
from mmreuse.models.classifiers import NetworkClassifier
from mmreuse.models.classifiers.sources import build_source
from mmreuse.networks import is_network_file, open_network, record_of
from mmreuse.networks.content.modules import split_name
from mmreuse.networks.references import load_weights
from mmreuse.statistics.passes import labelled_batches
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import file_hash, write_json
from mmreuse.utils.files.results import NETWORK_FILE
from mmreuse.utils.tables import write_rows
from mmreuse.visualization import Report, draw_deployment, name_best

_ONNX = '.onnx'


def load_networks(arguments: Sequence[str], model: str | None = None,
                  model_options: Mapping[str, Any] | None = None) -> dict[str, nn.Module | Path]:
    """Return what a command line names, by names that tell them apart.

    Args:
        arguments: Network files, modules of them (``FILE.safetensors#NAME``), ONNX files, weights (``.pth``) of
            ``model``, ``CONFIG=CHECKPOINT``, or configs, whose weights are random then.
        model: ``'timm:NAME'``, ..., or code of one's own, ``FILE.py:FUNCTION``, which network files may run, too.
        model_options: Of its builder.

    Raises:
        ConfigError: One is given twice, a file is missing, or weights are of no model.
    """
    if len(set(arguments)) < len(arguments):
        raise ConfigError(f'{max(arguments, key=arguments.count)} is given twice.')
    init_default_scope('mmreuse')
    trust_own(model)
    found: dict[str, nn.Module | Path] = {}
    for number, argument in enumerate(arguments):
        config, _, checkpoint = argument.partition('=')
        if Path(argument).suffix == _ONNX:
            if not Path(argument).is_file():
                raise ConfigError(f'there is no file {argument}. Check the path.')
            network: nn.Module | Path = Path(argument)
        elif not checkpoint and (reference := reference_of(argument, model, model_options or {})) != argument:
            network = open_network(reference)
        else:
            network = build_source(config if is_network_file(config) else dict(config=config), number).model
            if checkpoint:
                load_weights(network, checkpoint)
        name = _name(Path(config))
        found[name if name not in found else argument] = network
    return found


def load_images(config: str | Path, loader: str, samples: int | None = None,
                options: Mapping[str, Any] | None = None) -> tuple[Tensor, Tensor, list[str]]:
    """Return images of a config as its networks see them, their labels, and the names of the classes.

    Args:
        config: With a ``data_preprocessor`` where images need one.
        loader: ``'train_dataloader'`` or ``'test_dataloader'``.
        samples: How many, at equal distances in the data set; None for all.
        options: Dotted key to value, over the config.

    Returns:
        tuple: (N, C, H, W), (N,), and names; none where the data set has none.

    Raises:
        ConfigError: The config has no such loader, or there are fewer samples.
    """
    cfg = configured(config, options=options)
    if cfg.get(loader) is None:
        raise ConfigError(f'{config}: has no {loader}.')
    set_random_seed(0)
    whole = Runner.build_dataloader(plain(cfg[loader]))
    count = len(whole.dataset) if samples is None else samples
    if not 0 < count <= len(whole.dataset):
        raise ConfigError(f'samples={samples}: {config} has {len(whole.dataset)} in its {loader}.')
    places = [number * len(whole.dataset) // count for number in range(count)]
    part = DataLoader(Subset(whole.dataset, places), 64, collate_fn=whole.collate_fn, generator=torch.Generator())
    seer = NetworkClassifier(nn.Identity(), plain(cfg.get('data_preprocessor')))
    images, labels = map(torch.cat, zip(*labelled_batches(part, seer, 'images'), strict=True))
    return images, labels, list(classes_of(whole.dataset) or ())


def make_table(arguments: Sequence[str], out: str | Path, *, data: str | None = None, samples: int | None = None,
               input_size: Sequence[int] | None = None, options: Mapping[str, Any] | None = None,
               batches: Sequence[int] = (1, 16), model: str | None = None,
               model_options: Mapping[str, Any] | None = None, **settings: Any) -> DeploymentTable:
    """Measure networks on engines: ``table.json``, ``table.csv``, ``report.html`` and ``figure.png`` appear in ``out``.

    Args:
        arguments: See :func:`load_networks`.
        out: Folder.
        data: Config whose ``test_dataloader`` has the labelled images; None: random images, without accuracy.
        samples: How many of them.
        input_size: (C, H, W) of random images; by default what the first network takes.
        options: Over the config.
        batches: Numbers of images at once.
        model: See :func:`load_networks`.
        model_options: Likewise.
        **settings: Of :func:`mmreuse.deployment.table.measure_deployment`.

    Raises:
        ConfigError: It is not known what the networks take; or as :func:`load_networks` and :func:`load_images`.
    """
    networks, labels, classes = load_networks(arguments, model, model_options), None, []
    if data is not None:
        images, labels, classes = load_images(data, 'test_dataloader', samples, options)
    else:
        shape = input_size or _known_size(networks)
        images = torch.randn(max(batches), *shape, generator=torch.Generator().manual_seed(0))
    table = measure_deployment(networks, images, labels, batches=batches, classes=classes, **settings)
    files = [split_name(path)[0] for argument in arguments for path in argument.split('=')]
    made_from = dict(data=data, options=options, samples=samples, input_size=list(images.shape[1:]),
                     batches=list(batches), model=model, model_options=model_options, **settings,
                     networks={str(path): file_hash(path) for path in files})
    _publish(table, Path(out), made_from, batches)
    return table


def _publish(table: DeploymentTable, out: Path, made_from: Mapping[str, Any], batches: Sequence[int]) -> None:
    rows = table.cells
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / 'table.json', dict(rows=rows, made_from=made_from))
    write_rows(out / 'table.csv', rows)
    report = Report('Networks on inference engines')
    report.section('Latencies', 'Milliseconds of a pass: median, 10th and 90th percentile, of networks that take '
                   'turns. Memory is the peak of the process, interpreter and engine included.',
                   _conclusion(rows, batches))
    if any('accuracy' in row for row in rows):
        figure = draw_deployment(rows, batches)
        with atomic_path(out / 'figure.png') as path:
            figure.savefig(path, format='png', dpi=120)
        report.figures({'Accuracy against latency': figure})
    report.table(rows, best=f'ms_{batches[0]}', lowest=True)
    report.files({name: out / name for name in ('table.json', 'table.csv', 'figure.png')}, out)
    report.details('Made from', '\n'.join(f'{key}: {value}' for key, value in made_from.items()))
    report.write(str(out / 'report.html'))


def _conclusion(rows: Sequence[Mapping[str, Any]], batches: Sequence[int]) -> str:
    """Say what is fastest, for each number of images at once."""
    named = [dict(row, name=f'{row["network"]} on {row["engine"]}') for row in rows]
    return ' '.join(f'For {batch} image{"s" * (batch > 1)}, '
                    + name_best(named, 'name', f'ms_{batch}', lowest=True, unit=' ms', digits=2) for batch in batches)


def _name(path: Path) -> str:
    """Return the stem of a file; of what a job leaves as ``network...``, the name of its folder; or that of a module.
    """
    _, module = split_name(path)
    return module or (path.parent.name if path.stem.startswith(Path(NETWORK_FILE).stem) else path.stem)


def _known_size(networks: Mapping[str, nn.Module | Path]) -> Sequence[int]:
    for network in networks.values():
        inputs = record_of(network).inputs if isinstance(network, nn.Module) else ()
        if inputs:
            return inputs[0][0][1:]
    raise ConfigError('it is not known what the networks take: give --input-size, or --data with images.')
