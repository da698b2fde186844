# One of five blocks of 200 consecutive classes, in the head of all 1000: --cfg-options part=0 to part=4. Each has
# its own initialisation.
_base_ = ['./_base_imagenet.py']

part = 0
work_dir = 'work_dirs/{{ fileBasenameNoExtension }}/part${part}'
randomness = dict(seed='${part}')
blocks = [list(range(200 * block, 200 * block + 200)) for block in range(5)]
classes = '${blocks[part]}'
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
