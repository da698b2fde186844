"""Remove channels of a trained classifier down to shares of its cost: accuracy, size and latency, and checkpoints.

    python tools/pruning/prune_channels.py configs/woodfisher/channels_vgg11-bn_cifar10-jpeg.py --targets 0.5

The checkpoints are fine-tuned by ``tools/train.py`` and tested by ``tools/test.py`` with the same config.

A run that was killed resumes when the same command is given again.
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'ChannelPruningRunner', 'model, data and channels', {
        'channels.checkpoint': dict(help='trained weights'),
        'channels.targets': dict(nargs='+', type=float, help='shares of the cost')})
