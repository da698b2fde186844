"""Images for matching: the same in every pass, whatever happened in between."""
import numpy as np
import torch
from mmengine.config import Config

from mmreuse.engine import SafeRunner
from mmreuse.engine.merging import MatchingImages
from mmreuse.models import MergedClassifier


def test_every_pass_shows_the_same_images_with_workers_and_augmentation(tmp_path):
    net = dict(type='mmpretrain.ImageClassifier', backbone=dict(type='CifarResNet', depth=8, width=4),
               neck=dict(type='mmpretrain.GlobalAveragePooling'),
               head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16))
    pipeline = [dict(type='mmpretrain.RandomCrop', crop_size=8, padding=2), dict(type='RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs')]
    runner = SafeRunner.from_cfg(Config(dict(
        work_dir=str(tmp_path), default_scope='mmreuse', train_cfg=dict(by_epoch=True, max_epochs=0),
        model=dict(type=MergedClassifier, sources=[dict(model=net)], tasks=[list(range(10))], input_size=(3, 8, 8)),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[78.] * 3, std=[94.] * 3),
        train_dataloader=dict(
            batch_size=16, num_workers=1, persistent_workers=True, collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='Digits', indices=48, pipeline=pipeline)))))
    images = MatchingImages(runner.train_dataloader, runner.model.data_preprocessor, seed=5)
    first = torch.cat(list(images))
    mark = images.fingerprint()
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(3)
    np.random.seed(3)
    list(images)  # draws in a pass are its own
    assert torch.equal(torch.rand(3), expected[0]) and np.array_equal(np.random.rand(3), expected[1])
    assert torch.equal(torch.cat(list(images)), first) and images.fingerprint() == mark
    assert first.shape == (48, 3, 8, 8) and abs(float(first.mean())) < 1
