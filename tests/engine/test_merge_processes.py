"""Merging over processes: each has its share of the images, and what is joined is the same."""
import os
import subprocess
import sys

import pytest
import torch
from merging_runs import ROOT, merge_config, save_random_sources

from mmreuse.utils.files.io import load_checkpoint, read_json


@pytest.mark.slow
def test_two_processes_merge_as_one_does(tmp_path):
    """Images that do not divide; the statistics of norms differ slightly, as they depend on who is in a batch."""
    save_random_sources(tmp_path)
    config = merge_config(tmp_path, stop='backbone.layer2')
    reports, states = [], []
    for processes in (1, 2):
        work_dir = tmp_path / f'{processes}'
        launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(processes)]
        subprocess.run([sys.executable, *launcher, str(ROOT / 'tools/train.py'), str(config), '--launcher', 'pytorch',
                        '--work-dir', str(work_dir), '--cfg-options', 'default_hooks.merge.samples=None',
                        f'default_hooks.merge.cache_dir={work_dir}'],
                       check=True, env=os.environ | dict(OMP_NUM_THREADS='1'), capture_output=True)
        reports.append(read_json(work_dir / 'matching.json'))
        states.append(load_checkpoint(work_dir / 'merged.pth')['state_dict'])
    for name, item in reports[0].items():
        assert reports[1][name] == {**item, 'score': pytest.approx(item['score'], abs=1e-6)}
    for key, tensor in states[0].items():
        tolerance = dict(rtol=.1, atol=.01) if 'running_' in key else dict(rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(states[1][key], tensor, **tolerance, msg=key)
