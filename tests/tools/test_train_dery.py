"""A downstream config as it stands, through the real command line, on a handful of images."""
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest


@pytest.mark.slow
def test_downstream_config_trains_and_evaluates(repository, tmp_path):
    generator = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in ('anchor', 'ant'):
            folder = tmp_path / 'data/caltech101' / split / name
            folder.mkdir(parents=True)
            for index in range(4):
                cv2.imwrite(str(folder / f'{index}.jpg'), generator.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    environment = {**os.environ, 'MMREUSE_DATA_ROOT': str(tmp_path / 'data'), 'PYTHONPATH': str(repository),
                   'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    options = ['model.backbone.pretrained=False', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
               'default_hooks.logger.interval=1', 'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0',
               'val_dataloader.batch_size=4', 'val_dataloader.num_workers=0']
    run = subprocess.run(
        [sys.executable, 'tools/train.py', 'configs/dery/dery-10m_finetune_4xb64-20k_caltech101.py', '--amp',
         '--work-dir', str(tmp_path / 'work'), '--cfg-options', *options],
        cwd=repository, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    metrics = json.loads((tmp_path / 'work/metrics.json').read_text())
    assert metrics['iter'] == 2 and metrics['train/loss'] > 0
    assert {'val/accuracy/top1', 'val/single-label/recall'} <= set(metrics)
