"""Compare the modules that reengineer.py has learned with their baselines, on the test data of every target.

    python tools/seam/compare.py configs/seam/resnet20_cifar10-jpeg_binary.py

A table that was interrupted resumes when the same command is given again.
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'ModularizationRunner', 'model, data and modularization')
