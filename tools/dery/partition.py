"""Cut the zoo of a config into blocks and put like blocks into one set (third stage of deep model reassembly).

    python tools/dery/partition.py configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'PartitionRunner', 'zoo, data and the sections of the stages')
