# As in the supplement for CIFAR-10: fewer epochs, a lower learning rate for standard fine-tuning, masks by accuracy
# minus ratio alone (a threshold of 1 is never reached), a longer attack.
_base_ = ['../_base_/datasets/cifar10_transfer_224.py', './_base_resnet18.py']

model = dict(head=dict(num_classes=10))
if _base_.stage in ('head', 'masks', 'modular', 'frozen'):
    train_cfg = dict(max_epochs=10 if _base_.stage == 'head' else 30)
if _base_.stage == 'masks':
    custom_hooks = [dict(hook, threshold=1.) if hook['type'] == 'MaskThresholdHook' else hook
                    for hook in _base_.custom_hooks]
if _base_.stage == 'standard':
    optim_wrapper = dict(optimizer=dict(lr=0.001))
robustness = dict(attacks=dict(pgd=dict(iterations=100), compat=dict(iterations=100)))
