"""The jobs of the quick start, one behind the other."""
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmreuse.engine.quickstart.connectivity import connect_digits
from mmreuse.engine.quickstart.merging import merge_digits
from mmreuse.engine.quickstart.modularization import modularize_digits
from mmreuse.engine.quickstart.pruning import prune_digits
from mmreuse.engine.quickstart.reassembly import reassemble_digits
from mmreuse.engine.quickstart.screen import Screen, TimeLeft
from mmreuse.engine.quickstart.trained import Told
from mmreuse.visualization import Report


@dataclass(frozen=True)
class QuickJob:
    """One of the jobs."""
    title: str
    run: Callable[[Path, Report, Callable[[str], None]], Told]  # folder, report, what says the next step
    seconds: float  # on one core of an AMD EPYC


JOBS = {
    'merge': QuickJob('merge two networks without training', merge_digits, 22),
    'connect': QuickJob('look between two networks', connect_digits, 30),
    'reassemble': QuickJob('reassemble networks from blocks of others', reassemble_digits, 88),
    'modularize': QuickJob('keep what five of ten classes need', modularize_digits, 12),
    'prune': QuickJob('prune, export and time a network', prune_digits, 12),
}


def run_quickstart(folder: Path, jobs: Sequence[str]) -> Path:
    """Run jobs; what is finished is not computed again. The report is written anew after each.

    Args:
        folder: Where everything goes.
        jobs: Names of :data:`JOBS`.

    Returns:
        Path: The report.
    """
    screen, left = Screen(folder / 'quickstart.log'), TimeLeft({name: JOBS[name].seconds for name in jobs})
    report, target = Report('mmreuse: quick start on handwritten digits'), folder / 'report.html'
    screen.say(f'Report, after every job: {target}   Log: {screen.log}')
    for number, name in enumerate(jobs, start=1):
        screen.say(f'Job {number} of {len(jobs)}: {JOBS[name].title}, {left}')
        started = time.monotonic()
        with screen.quiet():
            told = JOBS[name].run(folder, report, screen.step)
            report.lead = (f'{number} of {len(jobs)} jobs. Every network was trained and tested on 8 x 8 digits; '
                           'accuracies are of 300 test images, by which no job chooses anything.')
            report.write(target)
        screen.table(told.rows)
        screen.say(' '.join(told.said))
        left.done(name, time.monotonic() - started)
    return target
