# One half of CIFAR-10-JPEG's classes; the outputs are CLIP's embeddings of the class names.
_base_ = ['./_base_short_schedule.py', '../../_base_/datasets/cifar10_jpeg.py']

classes = dict(num_classes=10, parts=2, part='${part}', seed='${split_seed}')
model = dict(
    head=dict(
        classes=classes,
        features='{{$MMREUSE_DATA_ROOT:data}}/text_features/clip_cifar.safetensors', key='cifar10'))

train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
