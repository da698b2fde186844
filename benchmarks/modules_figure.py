"""Figure of ``modules.py``, where it was run, and ``fast_modules.py``: accuracy of ten binary problems against speed.

    python benchmarks/modules_figure.py --network resnet20
"""
import argparse
import json
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parents[1] / 'configs/seam/results'
BINARY = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', default='resnet20')
    parser.add_argument('--out', type=Path, help='by default beside the results')
    args = parser.parse_args()
    closed, fast = (json.loads(path.read_text()) if path.exists() else {} for path in (
        RESULTS / f'{name}_{args.network}.json' for name in ('modules', 'fast_modules')))
    speed = {name: row['times as fast, batch 1'] for name, row in (closed | fast['latency']).items()}
    axes = Figure(figsize=(6, 4), layout='constrained').add_subplot(xlabel='times as fast on ONNX Runtime, one image',
                                                                    ylabel='mean recall of ten problems, %')
    for name, row in closed.items():
        point(axes, name, speed[name], row, 'o')
    for name, row in fast.items():
        if name != 'latency' and name not in closed and 'mean' in row:
            small = 'small, int8' if name.endswith('int8') else 'small'
            point(axes, name, speed[small] if row.get('macs', 0) < 1 else 1, row, 's')
    axes.axhline(binary(fast['head only']) - 0.5, color='grey', linestyle=':', label='head only, less half a point')
    axes.legend(loc='lower right')
    axes.set_xlim(right=1.2 * axes.get_xlim()[1])
    axes.grid(alpha=0.3)
    axes.figure.savefig(args.out or RESULTS / f'modules_{args.network}.png', dpi=110)


def binary(row: dict) -> float:
    """Mean of the problems of one class, which come first."""
    return fmean(list(row.values())[:BINARY])


def point(axes, name: str, times: float, row: dict, marker: str) -> None:
    axes.plot(times, binary(row), marker, color='tab:blue' if marker == 'o' else 'tab:red')
    axes.annotate(name, (times, binary(row)), xytext=(5, 4), textcoords='offset points', fontsize=8)


if __name__ == '__main__':
    main()
