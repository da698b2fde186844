"""Go through README, tutorials and how-tos with the installed wheel, as a new user does by copy and paste.

    python tests/new_user.py --out docs/en/new_user.json

The wheel is built and installed into an empty environment, which finds what mmreuse needs in the packages of the Python
that runs this (6 GB are not installed a second time). Every page is run in an empty folder outside the checkout, with a
space in its name, that is HOME as well. What a page takes for granted, such as photos and weights, is made first.
"""
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ('README.md', 'docs/en/reference/notebook.md',
         *(f'docs/en/how_to/{name}.md' for name in ('latency', 'own_model', 'own_data', 'extend')),
         *(str(path.relative_to(ROOT)) for path in sorted((ROOT / 'docs/en/tutorials').glob('*.md'))))
#: By what a block begins with, why it is not for somebody who has the wheel alone.
LEFT_OUT = {
    'make quickstart': 'is for a checkout', 'python tools/train.py configs/dery/dery-10m': 'needs ImageNet',
    'runner_type =': 'is a part of a config', 'stages = [dict': 'is a part of a config',
    "candidates = {'stem'": 'shows a signature'}
#: What pages take for granted: photos in class folders, weights of one's own, and networks and images in a notebook.
GIVEN = """
import numpy as np, timm, torch
from PIL import Image
draw = np.random.default_rng(0)
for number in range(40):
    path = Path('photos', ['cat', 'dog', *'abcdefgh'][number % 10], f'{number}.png')
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
for seed, name in enumerate('ab'):
    torch.manual_seed(seed)
    torch.save(timm.create_model('resnet18', num_classes=10).state_dict(), f'{name}.pth')
a, b, network = (timm.create_model('test_resnet', num_classes=10).eval() for _ in range(3))
images, labels, names = torch.randn(64, 3, 32, 32), torch.arange(64) % 10, list('abcdefghij')
sparse = network
"""


def run(args: Namespace) -> None:
    """Build, install, go through the pages and write the log."""
    with TemporaryDirectory() as folder:
        home = Path(folder, 'a new user')
        home.mkdir()
        program = install(Path(folder))
        shutil.copy(__file__, folder)
        shutil.copy(ROOT / 'docs/pages.py', folder)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(('PYTHON', 'MMREUSE'))}
        path = os.pathsep.join([str(program.parent), os.environ['PATH']])
        environment |= dict(HOME=str(home), PATH=path, OMP_NUM_THREADS='1')
        rows = [command_row(line, home, environment) for line in (
            'mmreuse --version', 'mmreuse list configs zipit', 'mmreuse check timm:test_resnet --input-size 64')]
        for page in args.pages:
            place = home / Path(page).stem
            place.mkdir()
            done = subprocess.run([program, Path(folder, 'new_user.py'), '--page', ROOT / page], cwd=place, check=True,
                                  env=environment, text=True, stdout=subprocess.PIPE)
            rows += [dict(page=page, **json.loads(line)) for line in done.stdout.splitlines()
                     if line.startswith('{"block')]
            print(*(row for row in rows if row['page'] == page), sep='\n', flush=True)
            write_log(args.out, rows)
    sys.exit(any(row['result'] == 'failed' for row in rows))


def write_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what is known so far; rows of pages that were not run now stay."""
    written = json.loads(path.read_text())['rows'] if path.is_file() else []
    pages = {row['page'] for row in rows}
    found = dict(command=f'python tests/new_user.py --out {path}', python=sys.version.split()[0],
                 rows=[*(row for row in written if row['page'] not in pages), *rows])
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + '\n')


def install(folder: Path) -> Path:
    """Return the Python of an environment with the wheel, in which the checkout is not known."""
    source = folder / 'source'
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns('.git', '.venv*', 'data', 'work_dirs', 'build', 'dist'))
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '--wheel-dir',
                    folder, source], check=True)
    shutil.rmtree(source)
    subprocess.run([sys.executable, '-m', 'venv', folder / 'venv'], check=True)
    program = folder / 'venv/bin/python'
    wheel, = folder.glob('mmreuse-*.whl')
    subprocess.run([program, '-m', 'pip', 'install', '--quiet', '--no-deps', wheel], check=True)
    lent = next((folder / 'venv').glob('lib/*/site-packages')) / 'lent.pth'
    # What a .pth there says, such as that of an editable install, is not read.
    lent.write_text(sysconfig.get_path('purelib') + '\n')
    where = subprocess.run([program, '-c', 'import mmreuse; print(mmreuse.__file__)'], cwd=folder, check=True,
                           env={**os.environ, 'PYTHONPATH': ''}, text=True, stdout=subprocess.PIPE).stdout
    assert where.startswith(str(folder / 'venv')), where
    return program


def command_row(line: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a command in a shell."""
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, text=True, capture_output=True)
    said = dict(said=' '.join(done.stderr.split())[-300:]) if done.returncode else {}
    return dict(page='', block=line, result='failed' if done.returncode else 'done', **said)


def run_page(page: Path) -> None:
    """Run the blocks of a page here, and print a row of the log for each; what fails does not keep the next from it."""
    from pages import cells_of
    from pages import run as run_cell
    names: dict[str, Any] = {'__name__': '__main__', 'Path': Path}
    if 'tutorials' not in page.parts:
        exec(GIVEN, names)
    for cell in cells_of(page.read_text(encoding='utf-8')):
        if cell.kind == 'markdown':
            continue
        row: dict[str, Any] = dict(block=cell.source.strip().splitlines()[0])
        started = time.process_time()
        reason = next((reason for sign, reason in LEFT_OUT.items() if cell.source.startswith(sign)), None)
        try:
            if reason is None:
                run_cell(cell, names)
            row |= dict(result='done') if reason is None else dict(result=f'left out: {reason}')
        except SystemExit as ended:
            row |= dict(result='failed', said=' '.join(str(ended.code).split()))
        except Exception as error:
            row |= dict(result='failed', said=' '.join(traceback.format_exception_only(error)[-1].split()))
        print(json.dumps(dict(row, seconds=round(time.process_time() - started, 1))), flush=True)


if __name__ == '__main__':
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--pages', nargs='+', default=PAGES, help='default: all')
    parser.add_argument('--page', type=Path, help='run it here, with what is installed')
    given = parser.parse_args()
    run_page(given.page) if given.page else run(given)
