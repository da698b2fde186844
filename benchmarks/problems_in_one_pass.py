"""Ten binary problems of a network on CIFAR-10-JPEG: structured modules from one pass beside masks learned one by one.

    python benchmarks/problems_in_one_pass.py --network resnet20 --out configs/seam/results/problems_in_one_pass.json
    python benchmarks/problems_in_one_pass.py --network efficientnet-lite0 --out FILE.json

``ours``: one call of ``modularize_channels`` for all ten, at 70 % of the operations. ``reference``: one call of
``modularize`` with its defaults for each of ``TIMED``; the time of ten is taken to be that of so many in proportion.
Seconds are of the processor, on one thread. Accuracy, of ``TIMED`` alone, is the mean recall in percent on test images,
of the rest as many as of the class.

``resnet20`` has learned CIFAR-10 at 32 px: 100 training images of each class, 500 test images. ``efficientnet-lite0``
has learned ImageNet (``python tools/misc/prepare_weights.py``) and sees images at 64 px; its last layer, for the ten
classes, is solved for on the same 50 training images of each class; 200 test images.
"""
import argparse
import statistics
import time
from pathlib import Path

import timm
import torch
from _common import write
from modules import DEVIATION, MEAN, read
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmreuse.models.backbones import CifarResNet
from mmreuse.modularization import modularize, modularize_channels
from mmreuse.modularization.structured.closed_head import head_on, set_head
from mmreuse.modularization.structured.problem import Problem
from mmreuse.modularization.structured.samples import Samples, balanced_accuracy
from mmreuse.utils.files.paths import data_root

#: Classes whose masks are learned.
TIMED = (3,)
Labelled = tuple[Tensor, Tensor]


def weights(name: str) -> dict[str, Tensor]:
    return load_file(Path(data_root()) / 'weights' / f'{name}.safetensors')


def resnet20() -> tuple[nn.Module, Labelled, Labelled]:
    """The network, training and test images."""
    net = CifarResNet(20, num_classes=10)
    net.load_state_dict(weights('cifar10_resnet20'))
    return net.eval(), read('train', 0, 100), read('test', 0, 500)


def efficientnet() -> tuple[nn.Module, Labelled, Labelled]:
    """The network with a head for the ten classes, training and test images."""
    net = timm.create_model('tf_efficientnet_lite0').eval()
    net.load_state_dict(weights('tf_efficientnet_lite0'))
    data, test = ((enlarged(images), labels) for images, labels in (read('train', 0, 50), read('test', 0, 200)))
    return set_head(net, 'classifier', *head_on(net, 'classifier', *data, 10)), data, test


def enlarged(images: Tensor) -> Tensor:
    """Images of ``read`` as the network has learned to see them, at 64 px."""
    pixels = interpolate(images * DEVIATION + MEAN, size=64, mode='bicubic').clamp(0, 255)
    return pixels / 127.5 - 1


NETWORKS = {'resnet20': resnet20, 'efficientnet-lite0': efficientnet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', choices=NETWORKS, default='resnet20')
    parser.add_argument('--out', help='write the results to this JSON file as well')
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, data, (images, labels) = NETWORKS[args.network]()
    test, problems = Samples(images, labels), {str(number): [number] for number in range(10)}

    def accuracy(modules: dict[int, nn.Module]) -> float:
        return statistics.fmean(100 * balanced_accuracy(
            module, test.of_problem(Problem.of('', [label], 10), 10), 2) for label, module in modules.items())

    start = time.process_time()
    ours = modularize_channels(net, data, problems, target=0.7, multiple=8)
    ours_s = time.process_time() - start
    start = time.process_time()
    masked = {label: modularize(net, data, [label]) for label in TIMED}
    reference_s = (time.process_time() - start) * 10 / len(TIMED)
    whole = modularize_channels(net, data, {str(label): [label] for label in TIMED}, target=1)
    write(args.out, {f'{args.network}, ten problems': dict(
        reference_s=reference_s, ours_s=ours_s, ratio=reference_s / ours_s, reference_accuracy=accuracy(masked),
        ours_accuracy=accuracy({label: ours[str(label)] for label in TIMED}),
        head_accuracy=accuracy({label: whole[str(label)] for label in TIMED}))})


if __name__ == '__main__':
    main()
