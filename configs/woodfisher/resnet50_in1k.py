# One-shot pruning of ImageNet's ResNet-50: rows of the Fisher are averages over 100 images, blocks of 1000 weights.
# torchvision's weights: python tools/model_converters/plain_to_classifier.py configs/woodfisher/resnet50_in1k.py
# WEIGHTS --out data/weights/resnet50_classifier.safetensors
_base_ = ['../zipit/sources/_base_imagenet.py', './_base_sweep.py']

fisher = dict(samples=80, average=100, damp=1e-5, block=1000)
pruning = dict(
    checkpoint='{{$MMREUSE_DATA_ROOT:data}}/weights/resnet50_classifier.safetensors',
    methods={
        'diagonal Fisher, layer': dict(fisher=fisher),
        'WoodFisher, global': dict(fisher=fisher),
        'WoodFisher, layer': dict(saliency='woodfisher', scope='layer', update='summed', fisher=fisher),
    },
    renormalizers=dict(reset=dict(type='reset', samples=8000)))
