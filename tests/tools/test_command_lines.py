"""The command lines as users type them: train, resume and test on the digits, in seconds."""
import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mmreuse.command_line import ToolParser, add_input_size

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='CifarResNet', depth=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-2))
param_scheduler = dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=10))
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory, repository) -> Path:
    path = tmp_path_factory.mktemp('config') / 'digits_cnn.py'
    path.write_text(CONFIG.format(root=repository))
    return path


@pytest.fixture(scope='module')
def environment(repository) -> dict[str, str]:
    """One CPU thread, no GPU, and this checkout whatever is installed."""
    paths = [str(repository), *filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))]
    programs = [str(Path(sys.executable).parent), os.environ['PATH']]
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': os.pathsep.join(paths),
            'PATH': os.pathsep.join(programs)}


@pytest.fixture(scope='module')
def tool(repository, environment, tmp_path_factory):
    """Run ``tools/<name>`` as a process of its own, outside the checkout."""
    folder = tmp_path_factory.mktemp('run')

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess:
        command = [str(repository / 'tools' / name), *map(str, arguments)]
        return subprocess.run(command if name.endswith('.sh') else [sys.executable, *command], cwd=folder,
                              env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture
def main(repository, monkeypatch):
    """Run ``tools/<name>`` in this process, which ends by itself: its exit status or last message."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')

    def run(name: str, *arguments: object) -> str | int:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(repository / 'tools' / name), run_name='__main__')
        return stopped.value.code

    return run


@pytest.fixture(scope='module')
def trained(tool, config, tmp_path_factory) -> Path:
    """Work_dir of a training that was stopped after two of its three epochs and resumed."""
    work_dir = tmp_path_factory.mktemp('trained')
    first = tool('train.py', config, '--work-dir', work_dir, '--seed', 1, '--cfg-options', 'train_cfg.max_epochs=2')
    assert first.returncode == 0, first.stderr
    assert json.loads((work_dir / 'metrics.json').read_text())['epoch'] == 2
    second = tool('train.py', config, '--work-dir', work_dir, '--seed', 1, '--resume')
    assert second.returncode == 0, second.stderr
    assert 'epoch_2.pth' in second.stderr + second.stdout
    assert 'Epoch(train) [1]' not in second.stderr + second.stdout
    return work_dir


def test_train_and_resume_learn_and_say_so(trained):
    metrics = json.loads((trained / 'metrics.json').read_text())
    assert metrics['epoch'] == 3 and metrics['iter'] == 3 * 19
    assert metrics['val/accuracy/top1'] > 80
    assert all(isinstance(value, int | float) for value in metrics.values())


def test_test_repeats_what_the_checkpoint_knows(tool, config, trained):
    run = tool('test.py', config, trained / 'epoch_3.pth', '--work-dir', trained,
               '--cfg-options', 'test_dataloader.dataset.split=val')
    assert run.returncode == 0, run.stderr
    metrics = json.loads((trained / 'metrics.json').read_text())
    assert metrics['test/accuracy/top1'] == pytest.approx(metrics['val/accuracy/top1'], abs=1e-4)


def test_amp_on_a_cpu_trains_in_bfloat16(tool, config, tmp_path):
    run = tool('train.py', config, '--work-dir', tmp_path, '--amp', '--no-validate', '--auto-scale-lr',
               '--cfg-options', 'train_cfg.max_epochs=1')
    assert run.returncode == 0, run.stderr
    assert 'AutocastOptimWrapper' in run.stdout + run.stderr
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['epoch'] == 1 and 'val/accuracy/top1' not in metrics
    assert metrics['train/loss'] < 2.3


def test_two_processes_train_through_the_script(tool, config, environment, tmp_path):
    environment['PORT'] = '29719'
    run = tool('dist_train.sh', config, 2, '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1')
    assert run.returncode == 0, run.stderr
    # 1197 images, 64 a batch, two processes.
    assert json.loads((tmp_path / 'metrics.json').read_text())['iter'] == 10


@pytest.mark.parametrize('arguments, message', [
    (['{config}x'], 'there is no such file'),
    (['{config}', '--cfg-options', 'optim_wrapper.optimiser.lr=1'], "there is no 'optimiser'. Nearest: 'optimizer'"),
    (['{config}', '--cfg-options', 'optim_wraper.clip_grad=1'], "Nearest: 'optim_wrapper'"),
    (['{config}', '--cfg-options', 'model.backbone.type=CifarResnet'], "Nearest: 'CifarResNet'"),
    (['{config}', '--cfg-options', 'optim_wrapper.type=AmpOptimWrapper'], 'needs a GPU'),
    (['{config}', '--cfg-options', 'randomness=[1]'], 'randomness = [1] has no keys. Give dict(seed=...).'),
])
def test_mistakes_end_in_one_message(main, config, tmp_path, arguments, message):
    work_dir = tmp_path / 'work'
    stopped = main('train.py', *(argument.format(config=config) for argument in arguments), '--work-dir', work_dir)
    assert message in stopped
    assert not list(work_dir.glob('*.pth'))


def test_names_that_no_log_can_hold_are_refused(main, capsys):
    assert main('train.py', 'net\udcff.py') == 2
    assert "'net\\udcff.py' is not in UTF-8. Rename the file." in capsys.readouterr().err


def test_a_missing_checkpoint_is_named(main, config, tmp_path):
    assert 'absent.pth' in main('test.py', config, tmp_path / 'absent.pth', '--work-dir', tmp_path)


@pytest.mark.parametrize('name', ['test.py', 'seam/module.py'])
def test_a_config_of_no_network_is_refused(main, tmp_path, name):
    (tmp_path / 'empty.py').write_text('seed = 0\n')
    words = [tmp_path / 'empty.py', tmp_path / 'a.pth', tmp_path / 'b']
    stopped = main(name, *(['pack', *words] if name != 'test.py' else words[:2]))
    assert 'empty.py: there is no model. ' in stopped or 'empty.py: the model of the config is a None' in stopped


def test_a_config_that_measures_what_it_makes_is_not_tested(main, tmp_path):
    stopped = main('test.py', ROOT / 'configs/mergers/all_digits.py', tmp_path / 'a.pth')
    assert 'a MergingRunner measures what it makes. Run it by tools/train.py.' in stopped


@pytest.mark.parametrize('name', ['train.py', 'test.py'])
def test_help_tells_what_the_tool_does(main, capsys, name):
    assert main(name, '--help') == 0
    printed = capsys.readouterr().out
    assert '--cfg-options' in printed and '--launcher' in printed


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_array.sh'])
def test_scripts_say_how_they_are_called(tool, name):
    run = tool(name)
    assert run.returncode == 2
    assert f'tools/{name}' in run.stderr


@pytest.fixture
def submitted(repository, environment, tmp_path):
    """Run a script with commands of Slurm that print what they are given; return that, word by word."""
    for command in ('srun', 'sbatch'):
        path = tmp_path / command
        path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$0" "$@"\n')
        path.chmod(0o755)

    def run(name: str, *arguments: str, **variables: str) -> list[str]:
        path = {'PATH': f'{tmp_path}:{environment["PATH"]}'}
        done = subprocess.run([str(repository / 'tools' / name), *arguments], env={**environment, **path, **variables},
                              capture_output=True, text=True, check=True)
        command, *words = done.stdout.splitlines()
        return [Path(command).name, *words]

    return run


def test_trainings_are_given_to_slurm(repository, submitted):
    words = submitted('slurm_train.sh', 'gpu', 'run', 'a config.py', '--amp', GPUS='16', SRUN_ARGS='--time 1:00')
    assert words == ['srun', '-p', 'gpu', '--job-name=run', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8',
                     '--cpus-per-task=5', '--kill-on-bad-exit=1', '--time', '1:00', 'python', '-u',
                     f'{repository}/tools/train.py', 'a config.py', '--launcher', 'slurm', '--amp']


def test_arrays_are_given_to_slurm(repository, submitted):
    words = submitted('slurm_array.sh', 'gpu', 'zoo', '16', 'a config.py', '--work-dir', 'x', SBATCH_ARGS='--time 1:00')
    command = f'exec python -u {repository}/tools/dery/extract_features.py a\\ config.py --work-dir x'
    assert words == ['sbatch', '-p', 'gpu', '--job-name=zoo', '--array=0-15', '--gres=gpu:1', '--ntasks=1',
                     '--cpus-per-task=5', '--time', '1:00', '--wrap', command]


@pytest.mark.parametrize('option, message', [
    ('train_cfg.max_epochs', 'expected KEY=VALUE'),
    ('=3', 'expected KEY=VALUE'),
    ('model..depth=3', 'expected KEY=VALUE'),
    ('model.head.topk=[1', 'brackets are not balanced'),
    ('model.head.topk=(1]', 'brackets are not balanced'),
])
def test_options_that_cannot_be_read_are_named(main, config, capsys, option, message):
    assert main('train.py', config, '--cfg-options', option) == 2
    printed = capsys.readouterr().err
    assert message in printed and option in printed


def test_a_broken_test_set_is_found_before_the_training(main, config, tmp_path):
    stopped = main('train.py', config, '--work-dir', tmp_path, '--cfg-options', 'test_dataloader.dataset.split=tset')
    assert "there is no split 'tset'. Nearest: 'test'" in stopped
    assert not list(tmp_path.glob('*.pth'))


TOOLS = sorted(str(path.relative_to(ROOT / 'tools')) for path in (ROOT / 'tools').rglob('*.py')
               if path.name != 'model_libraries.py')

def test_help_does_not_wait_for_torch(repository, environment):
    script = f"""
import contextlib, io, runpy, sys, time
for name in {TOOLS}:
    sys.argv = ["tools/" + name, "--help"]
    shown, started = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        runpy.run_path(sys.argv[0], run_name="__main__")
    assert "torch" not in sys.modules and time.process_time() - started < 2, name
    assert "python tools/" + name in shown.getvalue(), name
"""
    run = subprocess.run([sys.executable, '-c', script], cwd=repository, env=environment, capture_output=True,
                         text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize('given', [['--target', '3'], ['--target=3']])
def test_former_spellings_are_accepted_with_a_warning_and_not_shown(given, capsys):
    parser = ToolParser('What it does.', aliases={'--target': '--targets'})
    parser.add_argument('--targets', nargs='+')
    with pytest.warns(FutureWarning, match='^--target is now --targets. The former name is removed in mmreuse 0.4.0.$'):
        assert vars(parser.parse_args(given)) == dict(targets=['3'])
    with warnings.catch_warnings(action='error'):
        assert vars(parser.parse_args(['--targets', '1', '2'])) == dict(targets=['1', '2'])
    with pytest.raises(SystemExit):
        parser.parse_args(['--help'])
    assert '--target ' not in capsys.readouterr().out


def test_a_size_is_three_numbers_or_a_side(capsys):
    parser = ToolParser('What it does.')
    add_input_size(parser)
    assert parser.parse_args(['--input-size', '1', '8', '9']).input_size == [1, 8, 9]
    assert parser.parse_args(['--input-size', '8']).input_size == [3, 8, 8]
    with pytest.raises(SystemExit):
        parser.parse_args(['--input-size', '8', '8'])
    assert 'takes C H W' in capsys.readouterr().err
