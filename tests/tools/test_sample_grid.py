"""Two generators trained through the Runner, stopped and resumed, then merged and drawn."""
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import ConstantLR
from PIL import Image

from mmreuse.engine.run_config import run_config
from mmreuse.registry import MODELS

TOOL = Path(__file__).resolve().parents[2] / 'tools/merging/sample_grid.py'
CONFIG = """
_base_ = ['{root}/configs/zipit/singan_48px-300i_{image}.py']

model = dict(min_size=14, max_size=24, channels=4, steps=2)
train_cfg = dict(max_iters=4)
default_hooks = dict(checkpoint=dict(interval=2))
"""


@pytest.fixture(scope='module')
def trained(repository, tmp_path_factory) -> dict[str, tuple[str, str]]:
    """By image: config and checkpoint; the first after a kill in the middle."""
    folder, sources = tmp_path_factory.mktemp('singan'), {}
    for image in ('china', 'flower'):
        config = folder / f'{image}.py'
        config.write_text(CONFIG.format(root=repository, image=image))
        if image == 'china':
            run_config(config, work_dir=folder / image, options={'train_cfg.max_iters': 2})
        metrics = run_config(config, work_dir=folder / image, resume=image == 'china')
        assert metrics['iter'] == 4 and metrics['train/scale'] == 1
        sources[image] = str(config), str(folder / image / 'iter_4.pth')
    return sources


def run(monkeypatch, sources: list[tuple[str, str]], *arguments: str) -> None:
    flags = [word for source in sources for word in ('--source', *source)]
    monkeypatch.setattr(sys, 'argv', ['sample_grid.py', *flags, *arguments])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_training_goes_on_where_it_stopped(trained):
    state = torch.load(trained['china'][1], weights_only=True)['state_dict']
    assert state['iteration'] == 4
    # Amplitudes of noise are fractions of errors, but for the coarsest scale; 1 is where they start.
    assert state['generator.amplitudes'][0] == 1 and 0 < state['generator.amplitudes'][1] < 0.2


def test_samples_are_drawn_and_compared(trained, monkeypatch, tmp_path):
    run(monkeypatch, list(trained.values()), '--matchers', 'identity', 'zip', '--stop', 'scales.0.2', '--samples', '8',
        '--drawn', '2', '--out', str(tmp_path))
    report = json.loads((tmp_path / 'samples.json').read_text())
    distances = report['patch_distance']
    partial = [f'{matcher} to scales.0.2: {image}' for matcher in ('identity', 'zip') for image in ('china', 'flower')]
    originals = ['image of china', 'image of flower']
    assert list(distances) == [*originals, 'china', 'flower', 'mean of images', 'identity', 'zip', *partial]
    assert [distances[name][f'to {name}'] for name in originals] == [0, 0]
    assert distances['image of china']['to image of flower'] > 0.1
    with Image.open(tmp_path / 'samples.png') as image:
        assert min(image.size) > 100 and len(image.getcolors()) > 32


def test_generators_that_cannot_be_merged_are_refused(trained, monkeypatch, tmp_path):
    china, flower = trained.values()
    output = '--out', str(tmp_path / 'none')
    with pytest.raises(SystemExit, match='two or more'):
        run(monkeypatch, [china], *output)
    with pytest.raises(SystemExit, match='the same image'):
        run(monkeypatch, [china, china], *output)
    with pytest.raises(SystemExit, match='1 of 2 scales are trained'):
        run(monkeypatch, [china, (flower[0], flower[1].replace('iter_4', 'iter_2'))], *output)
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize('name', ['singan_250px-2000i_china', 'singan_48px-300i_flower'])
def test_configs_train_every_scale_at_both_rates(name, repository):
    cfg = Config.fromfile(repository / f'configs/zipit/{name}.py')
    model = MODELS.build({**cfg.model, 'type': 'mmreuse.SinGAN'})
    scales, steps = len(model.sizes), model.steps
    assert cfg.train_cfg.max_iters == scales * steps
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [ConstantLR(optimizer, **{key: value for key, value in each.items() if key != 'type'})
                  for each in cfg.param_scheduler]
    for step in range(scales * steps):
        share = 0.1 if step % steps >= 0.8 * steps else 1
        assert optimizer.param_groups[0]['lr'] == pytest.approx(5e-4 * share), step
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
