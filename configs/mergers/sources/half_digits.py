# One half of the digits, fine-tuned from the net of base_digits.py. --cfg-options part=1: the other half.
_base_ = ['./base_digits.py']

part = 0
classes = dict(num_classes=10, parts=2, part='${part}', seed=0)
model = dict(backbone=dict(init_cfg=dict(
    type='Pretrained', prefix='backbone.', checkpoint='result://configs/mergers/sources/base_digits.py')))

train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
train_cfg = dict(max_epochs=4, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=4))
work_dir = 'work_dirs/{{ fileBasenameNoExtension }}_part${part}'
