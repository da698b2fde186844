# One class of CIFAR-10-JPEG against the rest, from the ResNet-20 of configs/woodfisher/resnet20_cifar10-jpeg.py:
#   python tools/train.py configs/seam/resnet20_cifar10-jpeg_binary.py --cfg-options target=3
_base_ = ['../_base_/datasets/cifar10_jpeg.py', './_base_module.py']

target = 0
_problem = dict(type='BinaryProblem', target='${target}')
train_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.test_dataloader.dataset}}))

model = dict(
    base=dict(
        checkpoint='result://configs/woodfisher/resnet20_cifar10-jpeg.py',
        model=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='CifarResNet', depth=20),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64))),
    in_classes=10)
train_cfg = dict(max_epochs=24)

# The table of python tools/seam/compare.py, of what python tools/seam/reengineer.py has learned with this config and
# with resnet20_scratch_cifar10-jpeg_binary.py. --cfg-options modularization.scratch=None leaves the latter out.
modularization = dict(
    targets={str(target): dict(target=target) for target in range(10)},
    modules='work_dirs/{{ fileBasenameNoExtension }}/{target}/selection.pth',
    scratch=dict(config='configs/seam/resnet20_scratch_cifar10-jpeg_binary.py'))
