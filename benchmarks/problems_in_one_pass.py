"""Ten binary problems of ResNet-20 on CIFAR-10-JPEG: structured modules from one pass beside masks learned one by one.

    python benchmarks/problems_in_one_pass.py --out configs/seam/results/problems_in_one_pass.json

``ours``: one call of ``modularize_channels`` for all ten, at 70 % of the operations. ``reference``: one call of
``modularize`` with its defaults for each of ``TIMED``; the time of ten is taken to be that of so many in proportion.
Seconds are of the processor, on one thread. Both get 100 training images of each class; accuracy, of ``TIMED`` alone,
is the mean recall in percent on 500 test images of each class, of the rest as many as of the class.
"""
import statistics
import time
from pathlib import Path

import torch
from _common import parse_args, write
from modules import read
from safetensors.torch import load_file
from torch import nn

from mmreuse.models.backbones import CifarResNet
from mmreuse.modularization import modularize, modularize_channels
from mmreuse.modularization.structured.problem import Problem
from mmreuse.modularization.structured.samples import Samples, balanced_accuracy
from mmreuse.utils.files.paths import data_root

#: Classes whose masks are learned.
TIMED = (3,)


def main() -> None:
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    net = CifarResNet(20, num_classes=10)
    net.load_state_dict(load_file(Path(data_root()) / 'weights' / 'cifar10_resnet20.safetensors'))
    net.eval()
    data, test = read('train', 0, 100), Samples(*read('test', 0, 500))
    problems = {str(number): [number] for number in range(10)}

    def accuracy(modules: dict[int, nn.Module]) -> float:
        return statistics.fmean(100 * balanced_accuracy(
            module, test.of_problem(Problem.of('', [label], 10), 10), 2) for label, module in modules.items())

    start = time.process_time()
    ours = modularize_channels(net, data, problems, target=0.7, multiple=8)
    ours_s = time.process_time() - start
    start = time.process_time()
    masked = {label: modularize(net, data, [label]) for label in TIMED}
    reference_s = (time.process_time() - start) * 10 / len(TIMED)
    whole = modularize_channels(net, data, problems, target=1)
    write(args.out, {'ResNet-20, ten problems': dict(
        reference_s=reference_s, ours_s=ours_s, ratio=reference_s / ours_s, reference_accuracy=accuracy(masked),
        ours_accuracy=accuracy({label: ours[str(label)] for label in TIMED}),
        head_accuracy=accuracy({label: whole[str(label)] for label in TIMED}))})


if __name__ == '__main__':
    main()
