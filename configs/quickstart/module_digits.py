# Modules of the ResNet of resnet_digits.py: one digit against the rest.
_base_ = ['../seam/_base_module.py', '../_base_/datasets/digits.py']

target = 3
_problem = dict(type='BinaryProblem', target='${target}')
train_dataloader = dict(
    batch_size=32, dataset=dict(_delete_=True, **_problem, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.test_dataloader.dataset}}))

model = dict(
    base=dict(
        checkpoint='result://configs/quickstart/resnet_digits.py',
        model=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='CifarResNet', depth=14),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64))),
    in_classes=10)
train_cfg = dict(max_epochs=20)
default_hooks = dict(logger=dict(interval=1000), checkpoint=dict(interval=1, max_keep_ckpts=1))

modularization = dict(
    targets={str(target): dict(target=target) for target in (0, 3, 8)},
    modules='work_dirs/{{ fileBasenameNoExtension }}/{target}/selection.pth')
