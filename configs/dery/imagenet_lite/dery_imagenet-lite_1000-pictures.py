# Reassemble EfficientNet-Lite 0, 1, 2 and SqueezeNet 1.1, compared on a thousand ImageNet images.
_base_ = ['../../_base_/default_runtime.py', '../../_base_/zoos/imagenet_lite.py']

runner_type = 'DeRyRunner'
seed = 0

data = dict(dataset=dict(type='FlatImageFolder', data_root='{{$MMREUSE_DATA_ROOT:data}}/imagenet1000_sample'))
features = dict(num_samples=1000, minibatch=250, batch_size=25)
similarity = dict(type='cka')
partition = dict(num_blocks=4, epsilon=0.2, restarts=50, bijective=True)
reassembly = dict(
    bounds=dict(max_params=5e6, max_flops=800e6),
    # All activations of these nets are ReLU or ReLU6; the published list of units leaves ReLU6 out.
    proxy=dict(type='naswot', units='relu'),
    num_batches=2,
    batch_size=16,
    num_candidates=40,
    finalists=8,
    top=5,
    num_classes=1000,
    input_size=(224, 224),
    finetune='configs/dery/imagenet_lite/finetune_8xb128-100e_in1k.py')
