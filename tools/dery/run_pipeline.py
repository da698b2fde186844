"""Run all stages of deep model reassembly that are not up to date.

    python tools/dery/run_pipeline.py configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'DeRyRunner', 'zoo, data and the sections of the stages')
