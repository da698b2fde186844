# ResNet-50 in torchvision's layout, from torchvision's first weights for ImageNet.
_base_ = ['./_base_resnet18.py']

model = dict(backbone=dict(depth=50), head=dict(in_channels=2048))
pretrained = 'torchvision://resnet50.imagenet1k_v1'
custom_hooks = [dict(hook, checkpoint=pretrained) for hook in _base_.recipe.start] + _base_.recipe.hooks
robustness = dict(teacher=pretrained)
