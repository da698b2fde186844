# Deep model reassembly from the four digit nets of this folder.
_base_ = ['../_base_/default_runtime.py']

runner_type = 'DeRyRunner'
seed = 0

_preprocess = dict(mean=[78. / 255] * 3, std=[94. / 255] * 3, resize=8, crop=8)
zoo = [
    dict(key='resnet', library='local', model='CifarResNet', args=dict(depth=14),
         weights='result://configs/quickstart/resnet_digits.py', weights_prefix='backbone.', preprocess=_preprocess),
    dict(key='wide-resnet', library='mmpretrain', model='ResNet_CIFAR',
         args=dict(depth=18, stem_channels=16, base_channels=16),
         weights='result://configs/quickstart/wide-resnet_digits.py', weights_prefix='backbone.',
         preprocess=_preprocess),
    dict(key='convnext', library='timm', model='convnext_atto',
         args=dict(depths=(2, 2, 2, 2), dims=(16, 32, 48, 64), patch_size=1, num_classes=0),
         weights='result://configs/quickstart/convnext_digits.py', weights_prefix='backbone.timm_model.',
         preprocess=_preprocess),
    dict(key='vit', library='mmpretrain', model='VisionTransformer',
         args=dict(img_size=8, patch_size=2, out_type='cls_token',
                   arch=dict(embed_dims=48, num_layers=6, num_heads=3, feedforward_channels=96)),
         weights='result://configs/quickstart/vit_digits.py', weights_prefix='backbone.', preprocess=_preprocess),
]

data = dict(dataset=dict(type='Digits', split='train'), load=[], color_order='rgb')
features = dict(num_samples=512, minibatch=128)
similarity = dict(type='cka')
partition = dict(num_blocks=3, epsilon=0.3, restarts=20, bijective=True)
reassembly = dict(
    bounds=dict(max_params=400e3, max_flops=8e6),
    rules=dict(stem='cifar'),
    proxy=dict(type='ridge_probe'), num_batches=16, batch_size=32, num_candidates=40, finalists=8, top=3,
    num_classes=10, input_size=(8, 8), latency=True,
    finetune='configs/quickstart/finetune_digits.py')
