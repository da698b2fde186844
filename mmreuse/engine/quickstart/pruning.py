"""A network of the embedded digits, pruned, exported and timed."""
from pathlib import Path

import torch

from mmreuse.deployment import compare_latency
from mmreuse.engine.quickstart.pipelines import run_stages
from mmreuse.engine.quickstart.trained import CONFIGS, SAMPLES, SHAPE, Step, Told, Trained
from mmreuse.engine.reports.pipeline import conclude_stage
from mmreuse.networks import load
from mmreuse.utils.files.results import NETWORK_FILE
from mmreuse.visualization import Report

_ENGINES = {'torch': 'PyTorch', 'onnxruntime': 'ONNX Runtime'}
#: Images at once: of one alone, the engine's own work is most of the time.
_BATCH = 64


def prune_digits(folder: Path, report: Report, step: Step) -> Told:
    """Prune channels, refit what is left, export to ONNX, and measure how fast that is on two engines.

    Args:
        folder: Where everything goes.
        report: Gets the table.
        step: Is told what is done.
    """
    base = Trained('resnet', CONFIGS / 'resnet_digits.py', folder / 'zoo' / 'resnet')
    base.fit(step)
    step('pruning and exporting')
    whole, pruned, _ = run_stages(CONFIGS / 'shrink_digits.py', folder / 'shrink', base)
    step('timing')
    networks = dict(whole=base.build(), pruned=load(folder / 'shrink' / 'pruned' / NETWORK_FILE))
    images = torch.randn(_BATCH, *SHAPE, generator=torch.Generator().manual_seed(0))
    times = compare_latency(networks, images, tuple(_ENGINES))
    rows = []
    for name, row in dict(whole=whole, pruned=pruned).items():
        spread = {f'{label}, {_BATCH} images (ms)': '{:.2f} ({:.2f} to {:.2f})'.format(
            *(1e3 * getattr(times[engine][name], part) for part in ('median', 'low', 'high')))
            for engine, label in _ENGINES.items()}
        rows.append({'network': name, 'accuracy (%)': round(row['accuracy'], 1),
                     'random channels (%)': row.get('equal_cost') and round(row['equal_cost'], 1),
                     'MACs': row['macs'], **spread})
    faster = ' and '.join(f'{times[engine]["whole"].median / times[engine]["pruned"].median:.2g} times on {label}'
                          for engine, label in _ENGINES.items())
    said = [*conclude_stage(pruned, SAMPLES), f'By medians it is {faster} as fast as the whole network.']
    report.section(
        'Pruning and export', 'Channels of a network were removed by magnitude until 15 % of the multiply-accumulates '
        'were left; the layers were refitted in order on unlabelled images (calibrate), then the network was written '
        'as ONNX and compared with itself there. Latencies: median, 10th to 90th percentile, taken in turns.',
        said[0], said[1:])
    report.table(rows)
    report.files({'network.onnx': folder / 'shrink' / 'exported' / 'network.onnx',
                  'shrink/report.html': folder / 'shrink' / 'report.html'}, folder)
    return Told(rows, said[1:])
