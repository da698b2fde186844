# Gradual pruning of ImageNet's ResNet-50 to 90 %: every fifth epoch from the first to the fortieth, then fine-tuning.
_base_ = ['../zipit/sources/_base_imagenet.py']

model = dict(init_cfg=dict(
    type='Pretrained', checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/resnet50_classifier.safetensors'))
train_dataloader = dict(batch_size=180)
optim_wrapper = dict(optimizer=dict(lr=0.005))
# After the last step of pruning the learning rate falls by 0.6 every sixth epoch.
param_scheduler = dict(_delete_=True, type='StepLR', step_size=6, gamma=0.6, begin=40, end=100, by_epoch=True)
train_cfg = dict(max_epochs=100, val_interval=5)
custom_hooks = [
    dict(type='PruneHook', sparsity=0.9, begin=1, end=40, interval=5, saliency='woodfisher', scope='global',
         update='summed', fisher=dict(samples=400, average=400, damp=1e-5, block=2000))
]
