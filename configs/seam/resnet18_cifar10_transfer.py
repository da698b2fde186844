# As in the supplement for CIFAR-10: fewer epochs, a lower learning rate for standard fine-tuning, masks by accuracy
# minus ratio alone (a threshold of 1 is never reached), a longer attack.
_base_ = ['../_base_/datasets/cifar10_transfer_224.py', './_base_resnet18.py']

model = dict(head=dict(num_classes=10))
variants = dict(
    standard=dict(optim_wrapper=dict(optimizer=dict(lr=0.001))),
    head=dict(train_cfg=dict(max_epochs=10)),
    masks=dict(
        train_cfg=dict(max_epochs=30),
        custom_hooks=[dict(hook, threshold=1.) if hook['type'] == 'MaskThresholdHook' else hook
                      for hook in _base_.variants.masks.custom_hooks]),
    modular=dict(train_cfg=dict(max_epochs=30)),
    frozen=dict(train_cfg=dict(max_epochs=30)))
robustness = dict(attacks=dict(pgd=dict(iterations=100), compat=dict(iterations=100)))
