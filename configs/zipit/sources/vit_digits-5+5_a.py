# A small vision transformer for one half of the digits; outputs are orthonormal vectors that stand for the classes.
# --cfg-options split_seed=1: another division of the classes, and other initialisations.
_base_ = ['../../quickstart/_base_digits.py']

work_dir = 'work_dirs/zipit/{{ fileBasenameNoExtension }}_seed${split_seed}'
split_seed = 0
part = 0
randomness = dict(seed='${100 * part + split_seed}')  # each half from its own initialisation

classes = dict(num_classes=10, parts=2, part='${part}', seed='${split_seed}')
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer', img_size=8, patch_size=2, out_type='cls_token',
        arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=128)),
    head=dict(type='TextEmbeddingHead', in_channels=64, features=dict(num_classes=10, dims=64, seed=0),
              classes=classes, scale=20., loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))

train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=3, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=3, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=30, val_interval=30)
default_hooks = dict(checkpoint=dict(interval=30, max_keep_ckpts=1))
