"""Merge the sources of a config by several matchers, everything else alike.

Appends to auxiliary_functions.csv in the work-dir; metrics.json there gains baselines/<matcher>/...

    python tools/merging/baselines.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.command_line import merging_main

if __name__ == '__main__':
    merging_main(__doc__, 'baselines', {
        '--matchers': dict(nargs='*', default=['identity', 'weight_matching', 'permute'], metavar='NAME',
                           help="beside the config's own (default: %(default)s)")})
