"""Measure each source of a merge, and their ensemble, on the data of all tasks.

Appends to base_models.csv in the work-dir; metrics.json there gains base_models/<model>/...

    python tools/merging/base_models.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py
"""
from mmreuse.command_line import merging_main

if __name__ == '__main__':
    merging_main(__doc__, 'base_models')
