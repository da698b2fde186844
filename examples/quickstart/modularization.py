"""The parts of a network of the embedded digits that single digits need."""
from collections.abc import Sequence
from pathlib import Path

import torch
from common import CONFIGS, Trained, print_table

from mmreuse.engine.run_config import configured, run_config
from mmreuse.models.classifiers.module_files import load_base, read_modules
from mmreuse.modularization import apply_module, compact, count_uses, measure_cost, save_module
from mmreuse.utils.files.io import read_json
from mmreuse.visualization import Report, draw_modules

TARGETS = ('0', '3', '8')
#: Digits as batches have them.
SHAPE = (1, 3, 8, 8)


def modularize_digits(folder: Path, report: Report) -> None:
    """Learn which weights each of three digits needs, compare with baselines, and make a module smaller.

    Args:
        folder: Where everything goes.
        report: Gets the figure and the tables.
    """
    base = Trained('resnet', CONFIGS / 'resnet_digits.py', folder / 'zoo' / 'resnet', {})
    base.fit()
    config = CONFIGS / 'module_digits.py'
    options = {'model.base.checkpoint': str(base.checkpoint),
               'modularization.modules': str(folder / 'modules' / '{target}' / 'selection.pth')}
    for target in TARGETS:
        own = folder / 'modules' / target
        if not (own / 'metrics.json').is_file():
            changes = {f'{name}_dataloader.dataset.target': int(target) for name in ('train', 'val', 'test')}
            run_config(config, work_dir=own, options=options | changes, resume=True)
    run_config(config, 'ModularizationRunner', work_dir=folder, options=options)
    rows = read_json(folder / 'modularization' / 'results.json', required=('rows',))['rows']
    cells = {(row['method'], row['target']): row for row in rows}
    header = ('digit against the rest', 'weights kept', *TARGETS)
    table = [(method, f"{cells[method, TARGETS[0]]['ratio']:.0%}",
              *(f"{cells[method, target]['accuracy']:.1f}" for target in TARGETS))
             for method in dict.fromkeys(row['method'] for row in rows)]
    print_table('Modules of a net of the digits (test accuracy)', header, table)
    sizes = _sizes(config, folder / 'modules', options)
    print_table(*sizes)
    _add_to_report(report, header, table, sizes, rows)


def _sizes(config: Path, folder: Path, options: dict[str, str]) -> tuple[str, Sequence[str], list[tuple[str, ...]]]:
    """What a module costs, with and without its zeros; it is left as a file."""
    cfg = configured(config, options=options)
    base, target = load_base(cfg), TARGETS[0]
    [module] = read_modules(cfg, folder / target / 'selection.pth', (target, 'rest'))
    save_module(folder / f'{target}.safetensors', module, base)
    masked = apply_module(module, base)
    images = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    rows = []
    for name, network in dict(original=base, masked=masked, compacted=compact(masked, images)).items():
        cost = measure_cost(network, count_uses(network, images))
        rows.append((name, f'{cost.weights:,}', f'{cost.kept:,}', *(f'{flops / 1e6:.2f}' for flops in (
            cost.dense, cost.sparse))))
    header = ('network', 'weights', 'not zero', 'MFLOPs, dense', 'MFLOPs, sparse')
    return f'The module of {target}', header, rows


def _add_to_report(report: Report, header: Sequence[str], table: Sequence[Sequence[str]],
                   sizes: tuple[str, Sequence[str], list[tuple[str, ...]]], rows: list[dict]) -> None:
    report.heading('Modularization')
    report.text('Of a net that tells ten digits apart, the weights were found that one digit needs: a mask for every '
                'weight, learned with a small head, while the weights stand still. The table shows the module beside '
                'the whole net and beside as many weights chosen without training.')
    report.table(header, table)
    report.figure(draw_modules(rows), 'Accuracy on as many images of the digit as of others.')
    report.text('What the weights that are zero leave without effect can be removed without any change of the outputs; '
                'it is little as long as single weights go, and not channels.')
    report.table(*sizes[1:])
