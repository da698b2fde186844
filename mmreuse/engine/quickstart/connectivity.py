"""What lies between two networks of the embedded digits."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmreuse.engine.quickstart.trained import CONFIGS, METRIC, SAMPLES, Step, Told
from mmreuse.engine.run_config import run_config
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import read_json
from mmreuse.visualization import Report, compare, draw_connectivity, verdict

_PLAIN = ('direct', 'none')


def connect_digits(folder: Path, report: Report, step: Step) -> Told:
    """Train two networks in one run and measure the line between them, aligned and renormalized.

    Args:
        folder: Where everything goes.
        report: Gets the figure and the table.
        step: Is told what is done.
    """
    config = CONFIGS / 'pair_digits.py'
    epochs = read_config(config).train_cfg.max_epochs
    ends = [folder / 'pair' / f'net{number}_epoch_{epochs}.pth' for number in (1, 2)]
    if not all(end.is_file() for end in ends):
        step('training a pair of networks')
        run_config(config, work_dir=folder / 'pair', resume=True)
    step('measuring the line')
    run_config(CONFIGS / 'curve_digits.py', 'ConnectivityRunner', work_dir=folder,
               options={'connectivity.pairs.digits': list(map(str, ends))})
    rows = read_json(folder / 'connectivity' / 'results.json', required=('rows',))['rows']
    renormalizers = list(dict.fromkeys(row['renormalizer'] for row in rows))
    middle = {(row['matcher'], row['renormalizer']): row[METRIC] for row in rows if row['alpha'] == 0.5}
    table = [dict({'midpoint': matcher}, **{name: round(middle[matcher, name], 1) for name in renormalizers})
             for matcher in dict.fromkeys(row['matcher'] for row in rows)]
    said = conclude_line(rows)
    report.section(
        'Between two networks', 'Two networks were trained on all digits from different initialisations. The table has '
        'the accuracy of the mean of their weights: as they are (direct), and with the channels of the second put into '
        'the order of the first by weight matching or activation matching; without and with renormalization.',
        said[0], said[1:])
    report.table(table, best=max(renormalizers, key=lambda name: max(row[name] for row in table)))
    report.figures({'Accuracy and loss on the line between the two networks.': draw_connectivity(rows)})
    report.files({'connectivity/report.html': folder / 'connectivity' / 'report.html'}, folder)
    return Told(table, said[1:])


def conclude_line(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the best midpoint has, beside the plain one and the worse end, and whether that pays."""
    middle = {(row['matcher'], row['renormalizer']): row[METRIC] for row in rows if row['alpha'] == 0.5}
    matcher, renormalizer = best = max(middle, key=middle.get)
    end = min(row[METRIC] for row in rows if row['alpha'] in (0, 1))
    sentence = compare(f'The midpoint by {matcher} and {renormalizer}', middle[best], {
        'the plain midpoint': middle[_PLAIN], 'the worse end': end}, samples=SAMPLES)
    return [sentence, verdict(middle[best], {'the plain midpoint': middle[_PLAIN]}, SAMPLES)]
