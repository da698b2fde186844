# One half of Tiny-ImageNet-32's classes; the outputs are MiniLM's embeddings of the class names.
_base_ = ['./_base_short_schedule.py', '../../_base_/datasets/tiny_imagenet32.py']

classes = dict(num_classes=200, parts=2, part='${part}', seed='${split_seed}')
model = dict(
    backbone=dict(width=16),
    head=dict(
        classes=classes,
        in_channels=64,
        features='{{$MMREUSE_DATA_ROOT:data}}/text_features/minilm_tiny-imagenet32.safetensors', key='tiny_imagenet32'))

train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
