# Reassemble ResNet-20, 32, 44 and 56 on CIFAR-10-JPEG: features, similarity, partition, search.
_base_ = ['../../_base_/default_runtime.py', '../../_base_/zoos/cifar_resnets.py']

runner_type = 'DeRyRunner'
seed = 0

data = dict(
    dataset=dict(
        type='InMemoryImageFolder', data_root='{{$MMREUSE_DATA_ROOT:data}}/cifar10_jpeg', data_prefix='train'),
    load=[])
test_data = dict(
    dataset=dict(
        type='InMemoryImageFolder', data_root='{{$MMREUSE_DATA_ROOT:data}}/cifar10_jpeg', data_prefix='test'),
    load=[])
features = dict(num_samples=2048, minibatch=256)
similarity = dict(type='cka')
# Four blocks of the nine nodes of a ResNet-20 hold up to a third more than a quarter of them.
partition = dict(num_blocks=4, epsilon=0.34, restarts=50, bijective=True)
reassembly = dict(
    # Fewer parameters than a ResNet-44 (0.66 M) for at most the computation of a ResNet-32 (69 MMACs).
    bounds=dict(max_params=660e3, max_flops=70e6),
    rules=dict(stem='cifar'),
    proxy=dict(type='naswot'),
    num_batches=5,
    batch_size=32,
    num_candidates=100,
    finalists=10,
    top=5,
    num_classes=10,
    input_size=(32, 32),
    latency=True,
    finetune='configs/dery/cifar_resnets/finetune_b128-2e_cifar10-jpeg.py')
