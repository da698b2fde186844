"""Measure the accuracy of every member of the zoo of a config as it is, on its test_data.

    python tools/dery/evaluate_zoo.py configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'ZooAccuracyRunner', 'zoo, data and the sections of the stages')
