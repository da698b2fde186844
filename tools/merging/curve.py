"""Draw accuracy against cost over all places at which a merge may stop, from the ensemble to the whole merge.

Appends to zipit_configurations.csv in the work-dir and writes curve.json and curve.png there.

    python tools/merging/curve.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.command_line import merging_main

if __name__ == '__main__':
    merging_main(__doc__, 'curve', {
        '--stops': dict(nargs='+', metavar='MODULE', help="'none' merges everything, 'input' nothing (default: one "
                                                          'place after every layer)')})
