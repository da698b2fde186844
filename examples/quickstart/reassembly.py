"""Deep model reassembly on the embedded digits."""
from collections.abc import Sequence
from pathlib import Path

import torch
from common import CONFIGS, METRIC, Trained, print_table
from mmengine.config import Config

from mmreuse.datasets import Digits
from mmreuse.engine.run_config import learning_curve, run_config
from mmreuse.engine.studies.equal_cost import equal_cost_networks
from mmreuse.reassembly.assembly.emit import load_candidates
from mmreuse.reassembly.partition.files import load_partition
from mmreuse.reassembly.search.bounds import Bounds
from mmreuse.reassembly.similarity.similarity_matrix import load_similarity
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.cost.latency import measure_latency
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.visualization import Report, draw_learning_curves, draw_pareto, draw_partition, draw_similarity

ZOO = ('resnet', 'wide-resnet', 'convnext', 'vit')


def reassemble_digits(folder: Path, report: Report) -> None:
    """Deep model reassembly: a zoo of four networks, blocks, a search, and the best assembly fine-tuned.

    Args:
        folder: Where everything goes.
        report: Gets the figures and the table.
    """
    zoo = [Trained(name, CONFIGS / f'{name}_digits.py', folder / 'zoo' / name, {}) for name in ZOO]
    for member in zoo:
        member.fit()
    config = CONFIGS / 'dery_digits.py'
    members = {entry.key: number for number, entry in enumerate(Config.fromfile(config).zoo)}
    run_config(config, 'DeRyRunner', work_dir=folder / 'dery', options={
        f'zoo.{members[member.name]}.weights': str(member.checkpoint.resolve()) for member in zoo})
    best = folder / 'dery' / 'reassembly' / 'rank1.py'
    runs = [
        Trained('reassembled', best, folder / 'reassembled', {}),
        Trained('same, from scratch', best, folder / 'scratch',
                {'model.backbone.pretrained': False}),
        Trained('random assembly', best.with_name('random.py'), folder / 'random', {}),
    ]
    leader = max(zoo, key=lambda member: member.validation)
    runs += _of_equal_cost(zoo, Bounds(**Config.fromfile(config).reassembly.bounds), folder)
    for run in runs:
        run.fit()
    rows = _rows([*zoo, *runs])
    print_table('Deep model reassembly on digits (test accuracy)', HEADER, rows)
    _add_to_report(report, folder / 'dery', runs, leader.name, rows)


def _of_equal_cost(zoo: Sequence[Trained], bounds: Bounds, folder: Path) -> list[Trained]:
    """What else the budget buys, fine-tuned alike: the best net within it, and the best of the others, pruned to it."""
    images = _digits()
    ranked = {member.name: member for member in sorted(zoo, key=lambda member: -member.validation)}
    nets = {name: member.build() for name, member in ranked.items()}
    runs = []
    for name, net in equal_cost_networks(nets, images, params=bounds.max_params, macs=bounds.max_flops).items():
        if net is nets[name]:
            runs.append(Trained(f'{name}, trained on', ranked[name].config, folder / 'member',
                                {'load_from': str(ranked[name].checkpoint.resolve())}))
            continue
        target = (folder / 'pruned.pth').resolve()
        with atomic_path(target) as path:
            torch.save(dict(state_dict=net.state_dict()), path)
        runs.append(Trained(f'{name}, pruned to the budget', ranked[name].config, folder / 'pruned', {
            'model.type': 'NarrowClassifier', 'model.input_size': (3, 8, 8), 'load_from': str(target)}))
    return runs


def _digits() -> torch.Tensor:
    """512 training digits, as the nets see them."""
    data = Digits()
    images = torch.stack([torch.from_numpy(data.get_data_info(number)['img']) for number in range(512)])
    return (images.permute(0, 3, 1, 2).float() - 78) / 94


def _rows(runs: Sequence[Trained]) -> list[tuple[str, ...]]:
    nets = {run.name: run.build() for run in runs}
    images = torch.zeros(1, 3, 8, 8)
    times = measure_latency(nets, images)
    return [(run.name, f'{run.accuracy:.1f}', f'{count_params(nets[run.name]) / 1e3:.0f}',
             f'{count_macs(nets[run.name], images) / 1e6:.2f}', f'{1e3 * times[run.name].median:.2f}') for run in runs]


HEADER = ('net', 'accuracy (%)', 'parameters (k)', 'MMACs', 'latency (ms)')


def _add_to_report(report: Report, folder: Path, runs: Sequence[Trained], leader: str,
                   rows: Sequence[Sequence[str]]) -> None:
    similarity = load_similarity(folder / 'similarity' / 'similarity.safetensors')
    sizes = {key: len(names) + 1 for key, names in similarity.node_names.items()}
    candidates, pareto = (load_candidates(folder / 'reassembly' / name) for name in ('candidates.json', 'pareto.json'))
    report.heading('Deep model reassembly')
    report.text('Four trained nets are cut into blocks by the similarity of their features; the blocks are put '
                'together again within a budget and fine-tuned. The best net of the zoo on validation digits '
                f'is {leader}.')
    report.table(HEADER, rows)
    report.figure(draw_similarity(similarity.values.numpy(), sizes), 'Linear CKA between all nodes of the zoo.')
    report.figure(draw_partition(load_partition(folder / 'partition' / 'partition.json')), 'Blocks and their sets.')
    report.figure(draw_pareto(candidates, pareto, 'ridge_probe'), 'Assemblies that the proxy scored.')
    curves = {run.name: learning_curve(run.folder, METRIC) for run in runs}
    report.figure(draw_learning_curves(curves), 'Validation accuracy during fine-tuning.')
