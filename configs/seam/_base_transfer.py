# Indirect reuse as published: a pretrained network becomes one for another task. --cfg-options variant=head
# and so on says what a run is:
#   standard   fine-tuning of the whole network
#   head       only a new output layer, step 1 of modular fine-tuning
#   masks      masks of the pretrained weights, step 2
#   modular    fine-tuning from the weights that masks keep, step 3; frozen: what the masks took stays zero
#   magnitude, random   as modular, with as many weights, but the largest, or any
#   scratch    the same network from random weights
# python tools/seam/finetune.py runs several one after another. Differences from the publication: states are chosen on a
# tenth of the training data, and running statistics stand still in steps 1 and 2.
_base_ = ['../_base_/default_runtime.py']

variant = 'standard'
pretrained = ''  # the network's checkpoint, which configs of networks name

_masks = '../masks/selection.pth'
_start = dict(type='TransferInitHook', checkpoint='${pretrained}')
_stop = dict(type='EarlyStoppingHook', monitor='accuracy/top1', min_delta=0., patience=30)
_sgd = dict(type='SGD', lr=0.005, momentum=0., weight_decay=1e-4)
_fast_head = dict(optimizer=_sgd, paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.))))
_tuned = dict(model=dict(type='mmpretrain.ImageClassifier'), optim_wrapper=_fast_head)
variants = dict(
    standard=dict(_tuned, custom_hooks=[_start]),
    head=dict(
        model=dict(type='FrozenClassifier'),
        optim_wrapper=dict(
            optimizer=dict(_sgd, lr=0.1), paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=1.)))),
        custom_hooks=[_start, _stop]),
    masks=dict(
        model=dict(type='FrozenClassifier', masked=True, alpha=0.5),
        optim_wrapper=dict(
            optimizer=dict(type='Adam', lr=0.05), paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=0.02)))),
        custom_hooks=[dict(_start, head='../head'), dict(type='MaskThresholdHook', threshold=0.6, patience=30)]),
    modular=dict(_tuned, custom_hooks=[dict(_start, masks=_masks), _stop]),
    frozen=dict(_tuned, custom_hooks=[dict(_start, masks=_masks, keep_mask='frozen'), _stop]),
    magnitude=dict(_tuned, custom_hooks=[dict(_start, masks=_masks, saliency='magnitude'), _stop]),
    random=dict(_tuned, custom_hooks=[dict(_start, masks=_masks, saliency='random'), _stop]),
    scratch=dict(
        model=dict(type='mmpretrain.ImageClassifier'),
        optim_wrapper=dict(
            optimizer=dict(_sgd, lr=0.1, momentum=0.5), paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=1.)))),
        custom_hooks=[]))

model = dict(
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))
param_scheduler = None
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best='accuracy/top1', rule='greater'))

# The table of tools/seam/evaluate_robustness.py. Numbers are of normalised pixels: 0.1 is 5.7 of 255 levels with
# ImageNet's usual mean and deviation. The published attack clips at 2.2, which cuts off bright pixels; so does `clip`.
robustness = dict(
    students=dict(standard='standard', modular='modular'),
    attacks=dict(
        pgd=dict(type='feature_pgd', eps=0.1, step=0.01, iterations=40),
        noise=dict(type='noise', eps=0.1),
        nothing=dict(type='noise', eps=0.),
        compat=dict(type='feature_pgd', eps=0.1, step=0.01, iterations=40, clip=2.2),
        clip=dict(type='noise', eps=0., clip=2.2)))
