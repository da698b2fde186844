"""Run the zoo of a config over its data and keep the Grams of all nodes (first stage of deep model reassembly).

    python tools/dery/extract_features.py configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'FeatureExtractionRunner', 'zoo, data and the sections of the stages')
