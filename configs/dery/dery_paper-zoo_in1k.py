# The paper's search: 24 networks compared on ImageNet's validation images, cut into four blocks each, 500 candidates
# within 30 M parameters and 6 G multiply-accumulates. Not run here: weights of 4 GB are fetched first.
_base_ = ['../_base_/default_runtime.py', '../_base_/zoos/paper.py']

runner_type = 'DeRyRunner'
seed = 0

data = dict(
    dataset=dict(
        type='mmpretrain.ImageNet', data_root='{{$MMREUSE_DATA_ROOT:data}}/imagenet', split='val'))
features = dict(num_samples=2048, minibatch=256, batch_size=64, num_workers=4)
similarity = dict(type='cka')
partition = dict(num_blocks=4, epsilon=0.2, restarts=200, bijective=True)
reassembly = dict(
    bounds=dict(max_params=30e6, max_flops=6e9),
    proxy=dict(type='naswot'),
    num_batches=5,
    batch_size=32,
    num_candidates=500,
    finalists=50,
    top=5,
    num_classes=1000,
    input_size=(224, 224),
    finetune='configs/dery/imagenet_lite/finetune_8xb128-100e_in1k.py')
