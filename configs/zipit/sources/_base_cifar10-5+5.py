# One half of CIFAR-10's classes: PART of the division of SPLIT_SEED.
_base_ = ['../../_base_/datasets/cifar10.py']

classes = dict(num_classes=10, parts=2, part=int('{{$PART:0}}'), seed=int('{{$SPLIT_SEED:0}}'))
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
