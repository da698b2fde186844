"""Measure a network that another program merged, such as Git Re-Basin, in the architecture of a config's sources.

The file is a checkpoint of mmengine, a state dict, .safetensors or .npz; pickles are refused. Its tensors have the
names of the sources, or of the plain network. Batch norms are reset first, as those of all merges. Appends to
gitrebasin.csv in the work-dir; metrics.json there gains external/<file name>/...

    python tools/merging/evaluate_external.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py merged.safetensors
"""
from mmreuse.command_line import merging_main

if __name__ == '__main__':
    merging_main(__doc__, 'external', {
        'checkpoint': dict(help='the merged weights')})
