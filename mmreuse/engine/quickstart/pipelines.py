"""Pipelines of the quick start on a network that it has trained."""
from pathlib import Path
from typing import Any

from mmreuse.datasets import Digits
from mmreuse.engine import launch
from mmreuse.engine.classifiers import plain
from mmreuse.engine.quickstart.trained import Trained
from mmreuse.engine.reports.pipeline import rows_of_stages
from mmreuse.engine.run_config import configured
from mmreuse.networks import open_network, save
from mmreuse.utils.files.results import NETWORK_FILE


def run_stages(config: Path, folder: Path, base: Trained) -> list[dict[str, Any]]:
    """Run a pipeline with a trained network in place of the result of the config that it names.

    Args:
        config: Of the pipeline.
        folder: Its work_dir.
        base: The network.

    Returns:
        list: The rows of its table, see :func:`~mmreuse.engine.reports.pipeline.rows_of_stages`.
    """
    cfg, file = configured(config, folder), base.folder / NETWORK_FILE
    if not file.is_file():
        network = open_network(dict(config=str(base.config), checkpoint=str(base.checkpoint)))
        save(network, file, classes=list(Digits.METAINFO['classes']), preprocessing=plain(cfg.data_preprocessor))
    for stage in cfg.stages:
        stage.networks = [str(file) if each == str(base.config) else each for each in stage.networks]
    runner = launch.build_runner(cfg)
    metrics = launch.run(runner)
    found = {name: {key.removeprefix(f'{name}/'): value for key, value in metrics.items() if key.startswith(f'{name}/')}
             for name in runner.stages}
    return rows_of_stages(runner.stages, found)
