"""Deep model reassembly on the embedded digits."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmreuse.datasets import Digits
from mmreuse.engine.quickstart.trained import CONFIGS, METRIC, SAMPLES, SHAPE, Step, Told, Trained
from mmreuse.engine.reports.reassembly import add_reassembly
from mmreuse.engine.run_config import learning_curve, run_config
from mmreuse.engine.studies.equal_cost import equal_cost_networks
from mmreuse.reassembly.search.bounds import Bounds
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.cost.latency import measure_latency
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.visualization import Report, compare, draw_learning_curves, verdict

ZOO = ('resnet', 'wide-resnet', 'convnext', 'vit')
#: Tighter than in the config, so that the best networks of the zoo are too large; and a short training.
BUDGET, _TRAINING = dict(max_params=100e3, max_flops=8e6), {'train_cfg.max_epochs': 2}


def reassemble_digits(folder: Path, report: Report, step: Step) -> Told:
    """Deep model reassembly: a zoo of four networks, blocks, a search, and the best assembly fine-tuned.

    Args:
        folder: Where everything goes.
        report: Gets the figures and the table.
        step: Is told what is done.
    """
    zoo = [Trained(name, CONFIGS / f'{name}_digits.py', folder / 'zoo' / name) for name in ZOO]
    for member in zoo:
        member.fit(step)
    step('cutting the zoo into blocks, searching')
    config = CONFIGS / 'dery_digits.py'
    members = {entry.key: number for number, entry in enumerate(read_config(config).zoo)}
    run_config(config, 'DeRyRunner', work_dir=folder / 'dery', options={'reassembly.bounds': BUDGET} | {
        f'zoo.{members[member.name]}.weights': str(member.checkpoint.resolve()) for member in zoo})
    best = folder / 'dery' / 'reassembly' / 'rank1.py'
    runs = [
        Trained('reassembled', best, folder / 'reassembled', _TRAINING),
        Trained('same, from scratch', best, folder / 'scratch', {'model.backbone.pretrained': False, **_TRAINING}),
        Trained('random assembly', best.with_name('random.py'), folder / 'random', _TRAINING),
        *_of_equal_cost(zoo, folder),
    ]
    for run in runs:
        run.fit(step)
    rows = _rows([*zoo, *runs])
    said = conclude_reassembly(rows)
    report.section(
        'Deep model reassembly', f'Four trained networks were cut into blocks by the similarity of their features. The '
        f'blocks were put together again with at most {BUDGET["max_params"] / 1e3:.0f} k parameters, and the best '
        f'assembly was trained for {_TRAINING["train_cfg.max_epochs"]} epochs, as were the others below the four.',
        said[0], said[1:])
    report.table(rows, best='accuracy (%)', among=lambda row: row['network'] in [run.name for run in runs])
    curves = {run.name: learning_curve(run.folder, METRIC) for run in runs}
    report.figures({'Validation accuracy of what was trained within the budget.': draw_learning_curves(curves)})
    add_reassembly(report, folder / 'dery')
    report.files({'dery/report.html': folder / 'dery' / 'report.html'}, folder)
    shown = [row for row in rows if row['network'] not in ZOO]
    return Told([{key: value for key, value in row.items() if key != 'parameters (k)'} for row in shown], said[1:])


def conclude_reassembly(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say how the best assembly stands to what else the budget buys, and whether that pays."""
    accuracy = {f"'{row['network']}'": row['accuracy (%)'] for row in rows if row['network'] not in ZOO}
    own = accuracy.pop("'reassembled'")
    return [compare('The reassembled network', own, accuracy, samples=SAMPLES), verdict(own, accuracy, SAMPLES)]


def _of_equal_cost(zoo: Sequence[Trained], folder: Path) -> list[Trained]:
    """What else the budget buys, trained alike: the best network within it; the best of the others, pruned to it."""
    images, bounds = _digits(), Bounds(**BUDGET)
    ranked = {member.name: member for member in sorted(zoo, key=lambda member: -member.validation)}
    networks = {name: member.build() for name, member in ranked.items()}
    runs = []
    for name, network in equal_cost_networks(networks, images, params=bounds.max_params, macs=bounds.max_flops).items():
        if network is networks[name]:
            runs.append(Trained(f'{name}, trained on', ranked[name].config, folder / 'member',
                                {'load_from': str(ranked[name].checkpoint.resolve()), **_TRAINING}))
            continue
        target = (folder / 'pruned.pth').resolve()
        with atomic_path(target) as path:
            torch.save(dict(state_dict=network.state_dict()), path)
        runs.append(Trained(f'{name}, pruned to the budget', ranked[name].config, folder / 'pruned', {
            'model.type': 'NarrowClassifier', 'model.input_size': SHAPE, 'load_from': str(target), **_TRAINING}))
    return runs


def _digits() -> torch.Tensor:
    """512 training digits, as the networks see them."""
    data = Digits()
    images = torch.stack([torch.from_numpy(data.get_data_info(number)['img']) for number in range(512)])
    return (images.permute(0, 3, 1, 2).float() - 78) / 94


def _rows(runs: Sequence[Trained]) -> list[dict[str, Any]]:
    networks = {run.name: run.build() for run in runs}
    images = torch.zeros(1, *SHAPE)
    times = measure_latency(networks, images)
    return [{'network': run.name, 'accuracy (%)': round(run.accuracy, 1),
             'parameters (k)': round(count_params(networks[run.name]) / 1e3),
             'MMACs': round(count_macs(networks[run.name], images) / 1e6, 2),
             'ms (10th to 90th percentile)': '{:.2f} ({:.2f} to {:.2f})'.format(
                 *(1e3 * getattr(times[run.name], part) for part in ('median', 'low', 'high')))} for run in runs]
