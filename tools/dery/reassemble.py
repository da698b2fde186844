"""Search the best assemblies within a budget, write configs that train (fourth stage of deep model reassembly).

    python tools/dery/reassemble.py configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'ReassemblyRunner', 'zoo, data and the sections of the stages')
