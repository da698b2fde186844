# The sweep that runs on a CPU: python tools/pruning/prune.py configs/woodfisher/resnet20_cifar10-jpeg.py
_base_ = ['./_base_resnet20_cifar10-jpeg.py']

load_from = 'work_dirs/finetune_resnet20_b128-2e_cifar10-jpeg/epoch_2.pth'
train_dataloader = dict(num_workers=0)
test_dataloader = dict(num_workers=0)

fisher = dict(samples=1000, damp=1e-5)
pruning = dict(
    methods={
        'magnitude, layer': dict(saliency='magnitude', scope='layer'),
        'magnitude, global': dict(saliency='magnitude', scope='global'),
        'diagonal Fisher, global': dict(saliency='diagonal_fisher', scope='global', fisher=fisher),
        'WoodFisher, layer': dict(saliency='woodfisher', scope='layer', update='summed', fisher=fisher),
        'WoodFisher, global': dict(saliency='woodfisher', scope='global', update='summed', fisher=fisher),
        'WoodFisher, global, joint': dict(saliency='woodfisher', scope='global', update='joint', fisher=fisher),
        'WoodFisher, one block, joint': dict(
            saliency='woodfisher', scope='global', update='joint', fisher=dict(samples=1000, damp=1e-5, block='model')),
    },
    sparsities=[0.5, 0.6, 0.7, 0.8, 0.9, 0.95],
    renormalizers=dict(reset=dict(type='reset', samples=4096)))
