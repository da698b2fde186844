# One half of CIFAR-10's classes: `part` of the division of `split_seed`. Another is chosen by
# --cfg-options part=1 split_seed=3.
_base_ = ['../../_base_/datasets/cifar10.py']

split_seed = 0
part = 0
classes = dict(num_classes=10, parts=2, part='${part}', seed='${split_seed}')
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
