# Trained on the original CIFAR-10, fine-tuned for two epochs on CIFAR-10-JPEG: the dense net that is pruned here.
# Before it: python tools/model_converters/plain_to_classifier.py THIS_CONFIG data/weights/cifar10_resnet20.safetensors
_base_ = ['./_base_resnet20_cifar10-jpeg.py']

# Not load_from, which --resume would put aside.
model = dict(init_cfg=dict(
    type='Pretrained', checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/cifar10_resnet20_classifier.safetensors'))
