"""Mergers of a shared initialisation in runs, sweeps and jobs."""
from pathlib import Path

import pytest
import torch
from merging_runs import merge_config, write_source
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmreuse.engine.jobs.job import equal_cost_network, find_job
from mmreuse.engine.merging import MatchingImages
from mmreuse.engine.run_config import run_config
from mmreuse.engine.runners.sweeps.merging import MergingRunner
from mmreuse.engine.studies.merging_tables import measure_merges
from mmreuse.errors import ConfigError
from mmreuse.networks import open_network, save
from mmreuse.registry import MODELS
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import load_checkpoint, read_json


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A network with random weights, and two that are a little beside it."""
    folder = tmp_path_factory.mktemp('shared')
    torch.manual_seed(0)
    init_default_scope('mmreuse')
    for part in range(2):
        net = MODELS.build(Config.fromfile(write_source(folder, part, 'logits')).model)
        if part == 0:
            torch.save(dict(state_dict=net.state_dict()), folder / 'base.pth')
        net.load_state_dict(torch.load(folder / 'base.pth')['state_dict'])
        for tensor in net.parameters():
            tensor.data += 0.3 * tensor.norm() / tensor.numel()**.5 * torch.randn_like(tensor)
        (folder / f'logits-{part}').mkdir()
        torch.save(dict(state_dict=net.state_dict()), folder / f'logits-{part}/epoch_4.pth')
    return folder


@pytest.fixture
def config(folder) -> Path:
    """A config that merges the two by TIES."""
    path = merge_config(folder, 'backbone', 'logits', 'shared')
    path.write_text(path.read_text().replace('merge=dict(', f"""merge=dict(
        merger=[dict(type='ties', keep=0.2), dict(type='ties', keep=1.)], scale=[0.5, 1.],
        base={reference(folder)!r}, """))
    return path


def reference(folder: Path) -> dict:
    return dict(config=str(folder / 'logits-0.py'), checkpoint=str(folder / 'base.pth'))


def test_a_run_merges_chooses_and_keeps_heads_by_task(folder, config, tmp_path):
    metrics = run_config(config, work_dir=tmp_path)
    report = read_json(tmp_path / 'merger.json')
    assert report['type'] == 'ties' and len(report['tried']) == 4
    assert metrics['merge/scale'] == report['scale'] and metrics['merge/agreement'] == report['agreement']
    assert {'val/joint', 'val/task_a', 'val/task_b', 'merge/merging_seconds'} <= metrics.keys()
    state = load_checkpoint(tmp_path / 'merged.pth')['state_dict']
    for part in range(2):
        own = torch.load(folder / f'logits-{part}/epoch_4.pth')['state_dict']
        assert torch.equal(state[f'merged.tails.{part}.head.fc.weight'], own['head.fc.weight'])


def test_sweeps_measure_mergers_beside_matchers(folder, config, tmp_path):
    cfg = read_config(config, {'work_dir': str(tmp_path), 'default_hooks.merge.scale': None})
    found = measure_merges(cfg, matchers=['identity'], mergers=['average', 'task_arithmetic', 'regmean'])
    rows = {row['matcher']: row for row, _ in found}
    assert rows.keys() == {'identity', 'average', 'task_arithmetic', 'regmean'}
    assert rows['average']['joint'] == rows['identity']['joint']
    assert 'merge/scale' in rows['task_arithmetic'] and 'merge/scale' not in rows['regmean']


def test_images_are_told_apart_by_task(folder, config):
    runner = MergingRunner.from_cfg(read_config(config, {'work_dir': str(folder)}))
    images: MatchingImages = runner.images
    own = images.by_task(runner.model.tasks, 200)
    assert sum(map(len, own)) == 200 and min(map(len, own)) > 60
    seen = torch.cat(list(images))[:200]
    assert sorted(torch.cat(own).flatten(1).sum(1).tolist()) == sorted(seen.flatten(1).sum(1).tolist())


def test_the_job_takes_mergers_and_bases(folder, tmp_path):
    networks = [open_network(dict(config=str(folder / 'logits-0.py'),
                                  checkpoint=str(folder / f'logits-{part}/epoch_4.pth'))) for part in range(2)]
    save(open_network(reference(folder)), tmp_path / 'base.safetensors', inputs=torch.zeros(1, 3, 8, 8))
    job = find_job(dict(type='merge', merger='task_arithmetic', base=str(tmp_path / 'base.safetensors'), scale=0.5,
                        heads='merge'))
    images = [torch.randn(20, 3, 8, 8)]
    merged = job(networks, images=images)
    average = equal_cost_network(job, networks, merged, seed=0, images=images)
    # Half of the sum is the mean.
    torch.testing.assert_close(merged.trunk.state_dict(), average.trunk.state_dict())
    with pytest.raises(ConfigError, match='give the base'):
        find_job(dict(type='merge', merger='ties'))
