# Modules of single digits; tools/seam/reengineer.py sets the target.
_base_ = ['../../../configs/quickstart/module_digits.py']

model = dict(base=dict(
    checkpoint='sources/trained.pth',
    model=dict(
        _delete_=True,
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='CifarResNet', depth=8, width=8, shortcut='conv1x1'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=32))))
train_dataloader = dict(num_batch_per_epoch=6)
train_cfg = dict(max_epochs=4)
default_hooks = dict(logger=dict(interval=4), checkpoint=dict(interval=2))
