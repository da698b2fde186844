"""Go through README, tutorials and how-tos with the installed wheel, as a new user does by copy and paste.

    python tests/new_user.py --out docs/en/new_user.json
    tests/empty_machine.sh 3.13                            # with --empty, on a machine that has Python, git and make

The wheel is built and installed into an empty environment, which finds what mmreuse needs in the packages of the Python
that runs this (6 GB are not installed a second time). With --empty the commands of README for a checkout come first,
and the environment is made as docs/en/how_to/install.md says. Every page is run in an empty folder outside the
checkout, with a space in its name, that is HOME as well. What a page takes for granted, such as photos and weights, is
made first.
"""
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ('mmreuse --version', 'mmreuse list configs zipit', 'mmreuse check timm:test_resnet --input-size 64')
PAGES = ('README.md', 'docs/en/reference/notebook.md',
         *(str(path.relative_to(ROOT)) for kind in ('how_to', 'tutorials')
           for path in sorted((ROOT / 'docs/en' / kind).glob('*.md')) if path.stem != 'install'))
#: By what a block begins with, why it is not for somebody who has the wheel alone.
LEFT_OUT = {
    'make': 'is for a checkout', 'pip wheel': 'is how the environment was made', 'sbatch': 'needs Slurm',
    'python tools/train.py configs/dery/dery-10m': 'needs ImageNet', 'tools/slurm_array.sh': 'needs Slurm',
    'tools/dist_train.sh': 'needs GPUs', 'python tools/': 'is for a checkout', 'python examples/': 'is for a checkout',
    'runner_type =': 'is a part of a config', 'stages = [dict': 'is a part of a config',
    'similarity =': 'is a part of a config', '# CONFIG.py': 'is a part of a config',
    "candidates = {'stem'": 'shows a signature', 'mmreuse table net.safetensors': "names files of one's own"}
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
    """Install, go through the pages and write the log."""
    with TemporaryDirectory() as folder:
        home = Path(folder, 'a new user')
        home.mkdir()
        rows: list[dict[str, Any]] = []

        def command(line: str, place: Path, environment: Mapping[str, str] = os.environ) -> None:
            rows.append(command_row(line, place, environment))
            write_log(args, rows)

        if args.empty:
            for line in lines_of('README.md', 'make quickstart'):
                command(line, ROOT)
            program = install_all(Path(folder), command)
        else:
            program = install_lent(Path(folder))
        shutil.copy(__file__, folder)
        shutil.copy(ROOT / 'docs/pages.py', folder)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(('PYTHON', 'MMREUSE'))}
        path = os.pathsep.join([str(program.parent), os.environ['PATH']])
        environment |= dict(HOME=str(home), PATH=path, OMP_NUM_THREADS='1')
        for line in COMMANDS:
            command(line, home, environment)
        for page in args.pages:
            place = home / Path(page).stem
            place.mkdir()
            done = subprocess.run([program, Path(folder, 'new_user.py'), '--page', ROOT / page], cwd=place, check=True,
                                  env=environment, text=True, stdout=subprocess.PIPE)
            rows += [dict(page=page, **json.loads(line)) for line in done.stdout.splitlines()
                     if line.startswith('{"block')]
            print(*(row for row in rows if row['page'] == page), sep='\n', flush=True)
            write_log(args, rows)
    sys.exit(any(row['result'] == 'failed' for row in rows))


def write_log(args: Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what is known so far of this Python; rows of pages that were not run now stay, and so do other Pythons."""
    version = platform.python_version()
    written = json.loads(args.out.read_text())['trials'] if args.out.is_file() else []
    own = [trial for trial in written if trial['python'].split('.')[:2] == version.split('.')[:2]]
    pages = {row['page'] for row in rows}
    kept = [row for trial in own for row in trial['rows'] if row['page'] not in pages]
    trial = dict(python=version, system=platform.freedesktop_os_release()['PRETTY_NAME'], command=args.command,
                 rows=[*kept, *rows])
    trials = sorted([*(other for other in written if other not in own), trial],
                    key=lambda trial: int(trial['python'].split('.')[1]))
    args.out.write_text(json.dumps(dict(trials=trials), indent=1, ensure_ascii=False) + '\n')


def lines_of(page: str, begins: str) -> list[str]:
    """Return the command lines of the block of a page that begins so."""
    blocks = (ROOT / page).read_text(encoding='utf-8').split('```bash\n')[1:]
    block = next(block for block in blocks if block.startswith(begins))
    return [line.split('  #')[0].strip() for line in block.split('```')[0].splitlines()]


def copy_source(folder: Path) -> Path:
    """Return a copy of the checkout without what was made in it."""
    return Path(shutil.copytree(ROOT, folder / 'source', ignore=shutil.ignore_patterns(
        '.git', '.venv*', 'data', 'work_dirs', 'build', 'dist')))


def install_all(folder: Path, command: Callable[..., None]) -> Path:
    """Return the Python of an environment with the wheel and all that it needs, made as the page on it says."""
    source = copy_source(folder)
    subprocess.run([sys.executable, '-m', 'venv', folder / 'venv'], check=True)
    program = folder / 'venv/bin/python'
    environment = dict(os.environ, PATH=os.pathsep.join([str(program.parent), os.environ['PATH']]))
    for line in lines_of('docs/en/how_to/install.md', 'pip wheel'):
        command(line, source, environment)
    command('du -sh venv', folder)
    shutil.rmtree(source)
    return program


def install_lent(folder: Path) -> Path:
    """Return the Python of an environment with the wheel, in which the checkout is not known."""
    source = copy_source(folder)
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '--wheel-dir',
                    folder, source], check=True)
    shutil.rmtree(source)
    subprocess.run([sys.executable, '-m', 'venv', folder / 'venv'], check=True)
    program = folder / 'venv/bin/python'
    wheel, = folder.glob('mmreuse-*.whl')
    subprocess.run([program, '-m', 'pip', 'install', '--quiet', '--no-deps', wheel], check=True)
    lent = next((folder / 'venv').glob('lib/*/site-packages')) / 'lent.pth'
    # What a .pth there says, such as that of an editable install, is not read; but that of setuptools, which stands in
    # for the distutils that Python has no longer from 3.12 on.
    shim = Path(sysconfig.get_path('purelib'), 'distutils-precedence.pth')
    lent.write_text(f'{shim.parent}\n{shim.read_text()}\n')
    where = subprocess.run([program, '-c', 'import mmreuse; print(mmreuse.__file__)'], cwd=folder, check=True,
                           env={**os.environ, 'PYTHONPATH': ''}, text=True, stdout=subprocess.PIPE).stdout
    assert where.startswith(str(folder / 'venv')), where
    return program


def command_row(line: str, folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a command in a shell; of what it says the end is kept."""
    started = time.monotonic()
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    row = dict(page='', block=line, result='failed' if done.returncode else 'done',
               seconds=round(time.monotonic() - started, 1), said=''.join(done.stdout.strip().splitlines()[-1:])[-300:])
    print(done.stdout if done.returncode else '', row, sep='\n', flush=True)
    return row


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
        started = time.monotonic()
        reason = next((reason for sign, reason in LEFT_OUT.items() if cell.source.startswith(sign)), None)
        try:
            if reason is None:
                run_cell(cell, names)
            row |= dict(result='done') if reason is None else dict(result=f'left out: {reason}')
        except SystemExit as ended:
            row |= dict(result='failed', said=' '.join(str(ended.code).split()))
        except Exception as error:
            row |= dict(result='failed', said=' '.join(traceback.format_exception_only(error)[-1].split()))
        print(json.dumps(dict(row, seconds=round(time.monotonic() - started, 1))), flush=True)


if __name__ == '__main__':
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--empty', action='store_true', help='install everything, after what README says of a checkout')
    parser.add_argument('--command', default='python tests/new_user.py --out docs/en/new_user.json',
                        help='what the log says that made it')
    parser.add_argument('--pages', nargs='+', default=PAGES, help='default: all')
    parser.add_argument('--page', type=Path, help='run it here, with what is installed')
    given = parser.parse_args()
    run_page(given.page) if given.page else run(given)
