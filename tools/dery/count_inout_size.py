"""Write the input and output shapes of all nodes of the zoo of a config.

    python tools/dery/count_inout_size.py configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'NodeShapeRunner', 'zoo, data and the sections of the stages')
