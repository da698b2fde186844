"""What lies between two networks of the embedded digits."""
from pathlib import Path

from common import CONFIGS, METRIC, print_table

from mmreuse.engine.run_config import run_config
from mmreuse.utils.files.io import read_json
from mmreuse.visualization import Report, draw_connectivity

EPOCHS = 12


def connect_digits(folder: Path, report: Report) -> None:
    """Train two networks in one run and measure the line between them, aligned and renormalized.

    Args:
        folder: Where everything goes.
        report: Gets the figure and the table.
    """
    ends = [folder / 'pair' / f'net{number}_epoch_{EPOCHS}.pth' for number in (1, 2)]
    if not all(end.is_file() for end in ends):
        run_config(CONFIGS / 'pair_digits.py', work_dir=folder / 'pair', resume=True)
    run_config(CONFIGS / 'curve_digits.py', 'ConnectivityRunner', work_dir=folder,
              options={'connectivity.pairs.digits': list(map(str, ends))})
    rows = read_json(folder / 'connectivity' / 'results.json', required=('rows',))['rows']
    renormalizers = list(dict.fromkeys(row['renormalizer'] for row in rows))
    middle = {(row['matcher'], row['renormalizer']): f'{row[METRIC]:.1f}' for row in rows if row['alpha'] == 0.5}
    end = min(row[METRIC] for row in rows if row['alpha'] in (0, 1))
    header = ('midpoint', *renormalizers)
    table = [(matcher, *(middle[matcher, name] for name in renormalizers))
             for matcher in dict.fromkeys(row['matcher'] for row in rows)]
    print_table(f'Between two nets of the digits (test accuracy; the worse end has {end:.1f})', header, table)
    report.heading('Between two networks')
    report.text(f'Two nets were trained on all digits from different initialisations; the worse one has {end:.1f} % of '
                'the test digits right. The table shows the mean of their weights: as they are, and with the second '
                'one permuted into the order of the first; without and with renormalization.')
    report.table(header, table)
    report.figure(draw_connectivity(rows), 'Accuracy and loss on the line between the two nets.')
