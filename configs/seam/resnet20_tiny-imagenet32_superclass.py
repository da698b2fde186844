# A superclass of Tiny-ImageNet-32, of the classes that ImageNet's has there:
#   python tools/seam/reengineer.py configs/seam/resnet20_tiny-imagenet32_superclass.py --superclasses imagenet \
#       --targets dog bird ...
_base_ = ['../_base_/datasets/tiny_imagenet32.py', './_base_module.py']

target = 'dog'
_problem = dict(type='ClassProblem', classes=dict(of='imagenet', name='${target}'))
train_dataloader = dict(
    batch_size=64, dataset=dict(_delete_=True, **_problem, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.test_dataloader.dataset}}))

model = dict(
    base=dict(
        checkpoint='result://configs/seam/resnet20_tiny-imagenet32.py',
        model=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='CifarResNet', depth=20),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=200, in_channels=64))),
    in_classes=200,
    out_classes=6)

# 450 images a class: 21 steps an epoch for three classes.
train_cfg = dict(max_epochs=16)

modularization = dict(
    targets={
        name: dict(classes=dict(of='imagenet', name=name)) for name in (
            'cat', 'arachnid', 'mollusk', 'primate', 'bird', 'accessory', 'dog', 'ungulate', 'furniture', 'building')
    },
    modules='work_dirs/{{ fileBasenameNoExtension }}/{target}/selection.pth')
