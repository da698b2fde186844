"""Prune a trained classifier by several methods to several sparsities and measure it, before and after renormalization.

    python tools/pruning/prune.py configs/woodfisher/resnet20_cifar10-jpeg.py --sparsities 0.8 0.9

A run that was killed resumes when the same command is given again.
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'PruningRunner', 'model, data and pruning', {
        'pruning.checkpoint': dict(help='trained weights'),
        'pruning.sparsities': dict(nargs='+', type=float, help='shares of pruned weights')})
