# Two releases of torchvision's ResNet-50, of two recipes: IMAGENET1K_V1 and IMAGENET1K_V2.
#   python tools/model_converters/plain_to_classifier.py configs/vanishing_feature/pfm_resnet50_in1k.py
#       resnet50-0676ba61.pth --out data/weights/resnet50-v1_classifier.safetensors
#   python tools/model_converters/plain_to_classifier.py configs/vanishing_feature/pfm_resnet50_in1k.py
#       resnet50-11ad3fa6.pth --out data/weights/resnet50-v2_classifier.safetensors
_base_ = ['../zipit/sources/_base_imagenet.py', './_base_preserve_first.py']

train_dataloader = dict(batch_size=32)
test_cfg = dict(fp16=True)

# Published are statistics of about 2000 images. On a GPU what fronts make of the test images can be kept.
preserve_first = dict(
    pairs={
        'V1, V2': [
            '{{$MMREUSE_DATA_ROOT:data}}/weights/resnet50-v1_classifier.safetensors',
            '{{$MMREUSE_DATA_ROOT:data}}/weights/resnet50-v2_classifier.safetensors',
        ]
    },
    matchers=dict(_delete_=True, permute=dict(type='permute'), direct=dict(type='identity')),
    renormalizers={'RESET': dict(type='reset')},
    memory_gb=16)
