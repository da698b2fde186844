# One of five blocks of 200 consecutive classes, in the head of all 1000: PART=0 to 4 in the environment. Each has its
# own initialisation.
_base_ = ['./_base_imagenet.py']

part = int('{{$PART:0}}')
work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/part{{$PART:0}}'
randomness = dict(seed=part)
classes = list(range(200 * part, 200 * part + 200))
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
