# Two VGG-16 of ImageNet, from different initialisations; both hidden linear layers, here as convolutions, are points.
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/imagenet_plain_224.py', './_base_preserve_first.py']

model = dict(type='mmpretrain.TimmClassifier', model_name='vgg16', num_classes=1000)
train_dataloader = dict(batch_size=32)
test_cfg = dict(fp16=True)

# Published are statistics of about 10000 images.
preserve_first = dict(
    pairs={
        'seed 0': [
            '{{$MMREUSE_DATA_ROOT:data}}/weights/vgg16-seed0_classifier.safetensors',
            '{{$MMREUSE_DATA_ROOT:data}}/weights/vgg16-seed1_classifier.safetensors',
        ]
    },
    matchers=dict(_delete_=True, permute=dict(type='permute')),
    renormalizers={
        'REPAIR': dict(type='repair'),
        'RESCALE': dict(type='rescale'),
        'bias calibration': dict(type='bias_calibration'),
        'zero bias': dict(type='zero_bias'),
    },
    samples=10000,
    memory_gb=16)
