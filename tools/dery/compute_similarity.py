"""Compare all nodes of the zoo of a config (second stage of deep model reassembly).

    python tools/dery/compute_similarity.py configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'SimilarityRunner', 'zoo, data and the sections of the stages')
