r"""Prune networks to shares of their measured latency, and set Torch-Pruning on the same budgets beside.

    pip install torch-pruning==1.6.1        # not a requirement
    python benchmarks/latency_budget.py resnet20 --checkpoint data/weights/cifar10_resnet20.safetensors --out r20.json
    python tools/train.py configs/woodfisher/vgg11-bn_8-epochs_cifar10-jpeg.py --amp
    python benchmarks/latency_budget.py vgg11 --checkpoint work_dirs/vgg11-bn_8-epochs_cifar10-jpeg/epoch_8.pth \
        --out vgg11-bn.json

Widths are those of the integer program under milliseconds of ONNX Runtime, one thread, by the saliency 'elimination' on
the images that calibrate; of random weights, by magnitudes. Rows have what was predicted and
what is measured, in turns with the original, and the accuracy as pruned, calibrated on some images without labels, and
distilled from the original on some more. Torch-Pruning's default importance removes the same share of every layer,
the smallest that keeps within the budget when measured, in steps of a twentieth; it is distilled alike. Nothing is
chosen on test images. Data are those of ``benchmarks/pruning.py``, and so is the ViT. An EfficientNet-Lite0 has random
weights here and is timed only, at 64 pixels. Rows that the file holds are kept.
"""
import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import timm
import torch
from mmengine.registry import DefaultScope
from pruning import RESNETS, Classifier, Data, _removed, accuracy, corrections, digits, folders, vit
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mmreuse.calibration import Source
from mmreuse.deployment import LatencyCost, compare_latency
from mmreuse.distillation import Objective, distill, plain_scoring
from mmreuse.errors import InfeasibleError
from mmreuse.graph import copy_model, transform
from mmreuse.models.backbones import CifarVGG
from mmreuse.pruning.channels.channels import select_channels
from mmreuse.renormalization import apply_renormalizers
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.files.io import load_checkpoint, write_json


def latencies(net: nn.Module, pruned: nn.Module, like: Tensor, batch: int, repeats: int = 300) -> dict[str, float]:
    """Milliseconds of both, in turns: the 10th percentile, and the median."""
    image = torch.randn(batch, *like.shape[1:], generator=torch.Generator().manual_seed(0))
    found, = compare_latency(dict(dense=net, pruned=pruned), image, ['onnxruntime'], repeats=repeats).values()
    return {f'{name}_{kind}_ms': round(1e3 * getattr(each, kind), 4) for name, each in found.items()
            for kind in ('low', 'median')}


def ours(net: nn.Module, image: Tensor, share: float, batch: int, loader: DataLoader,
         args: argparse.Namespace) -> dict:
    """Widths by the program; the network, pruned and calibrated, and what was predicted."""
    cost = LatencyCost(batch_size=batch, cache=args.cache)
    saliency = dict(loader=loader, saliency='elimination') if args.net != UNTRAINED else {}
    selection = select_channels(net, image, share, cost=cost, multiple=args.multiple, **saliency)
    pruned = transform(selection.graph, selection.maps)
    found = dict(pruned=pruned, predicted_ms=round(selection.choice.cost, 4),
                 predicted_dense_ms=round(selection.dense, 4), widths=selection.choice.widths)
    if args.net == UNTRAINED:
        return found
    calibrated, method = copy_model(pruned), corrections(net, loader)[-1]
    start = time.process_time()
    apply_renormalizers(calibrated, loader, method, sources=[Source.mapped(selection.graph, selection.maps)])
    return found | dict(calibrated=calibrated, calibration_s=round(time.process_time() - start, 1))


def theirs(net: nn.Module, image: Tensor, share: float, batch: int) -> dict:
    """The widest of Torch-Pruning's networks that keeps within the budget, measured."""
    low, high, best = 1, 19, None
    while low <= high:
        middle = (low + high) // 2
        try:
            pruned = _removed(net, image, middle / 20)
        except ZeroDivisionError:  # it has removed all heads of a transformer
            low = middle + 1
            continue
        times = latencies(net, pruned, image, batch, 40)
        if times['pruned_low_ms'] <= share * times['dense_low_ms']:
            low, best = middle + 1, (middle / 20, pruned)
        else:
            high = middle - 1
    if best is None:
        raise InfeasibleError('even the narrowest takes longer')
    return dict(pruned=best[1], kept=best[0])


def distilled(net: nn.Module, start: nn.Module, images: Tensor, steps: int) -> nn.Module:
    """The network after a short distillation from the original.

    The last tenth of the images, which is not among those that calibrate, says which state is kept.
    """
    student, rest = copy_model(start), len(images) - len(images) // 10
    distill(student, Objective(plain_scoring(student, [net], images[:1])), images[:rest], images[rest:], steps=steps)
    return student.eval()


def vgg(weights: Path) -> nn.Module:
    """The VGG-11-BN of half width of ``configs/woodfisher``."""
    net = Classifier(CifarVGG(depth=11, width=32, norm='bn', last_pool='avg', init='vgg_init'), 256)
    net.load_state_dict({key.replace('head.fc.', 'head.'): value
                         for key, value in load_checkpoint(weights)['state_dict'].items()})
    return net.eval()


UNTRAINED = 'efficientnet-lite0'


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('net', choices=(*RESNETS, 'vgg11', 'vit', UNTRAINED))
    parser.add_argument('--checkpoint', type=Path, help='of a ResNet or the VGG')
    parser.add_argument('--images', type=Path, default=Path('data/cifar10_jpeg'), help='default: %(default)s')
    parser.add_argument('--shares', nargs='+', type=float, default=[0.7, 0.5, 0.3])
    parser.add_argument('--batch-sizes', nargs='+', type=int, default=[1, 16])
    parser.add_argument('--samples', type=int, default=400, help='number of training images that calibrate')
    parser.add_argument('--unlabelled-samples', type=int, default=2000, help='number of training images that distil')
    parser.add_argument('--steps', type=int, default=150, help='of distillation; 0 for none')
    parser.add_argument('--multiple', type=int, default=8, help='of widths')
    parser.add_argument('--test-samples', type=int, default=2000, help='number of test images')
    parser.add_argument('--torch-pruning', action='store_true', help='rows of it as well')
    parser.add_argument('--cache', type=Path, default=Path('work_dirs/cache'), help='times of layers')
    parser.add_argument('--out', type=Path, required=True, help='rows as JSON')
    measure(parser.parse_args(arguments))


def measure(args: argparse.Namespace) -> None:
    """Fill the file of rows."""
    torch.set_num_threads(1)
    warnings.filterwarnings('ignore')
    DefaultScope.get_instance('beside', scope_name='mmreuse')
    if args.net == UNTRAINED:
        net = timm.create_model('tf_efficientnet_lite0', num_classes=10).eval()
        train = test = torch.zeros(1, 3, 64, 64), torch.zeros(1, dtype=torch.long)
    elif args.net == 'vit':
        train, test = digits('train'), digits('test')
        net = vit(train)
    else:
        train = folders(args.images, 'train', max(args.unlabelled_samples, args.samples))
        test = folders(args.images, 'test', args.test_samples)
        net = vgg(args.checkpoint) if args.net == 'vgg11' else RESNETS[args.net](args.checkpoint, 'all')
    image, loader = torch.zeros_like(train[0][:1]), DataLoader(TensorDataset(*(x[:args.samples] for x in train)), 100)
    prune = {'mmreuse': lambda share, batch: ours(net, image, share, batch, loader, args)}
    if args.torch_pruning:
        prune['Torch-Pruning'] = lambda share, batch: theirs(net, image, share, batch)
    rows = json.loads(args.out.read_text())['rows'] if args.out.exists() else []
    settings = {key: value for key, value in vars(args).items() if not isinstance(value, Path)}
    if args.net != UNTRAINED:
        settings |= dict(test_samples=len(test[1]), dense=accuracy(net, test),
                         unlabelled_samples=min(args.unlabelled_samples, len(train[1])))
    for batch in args.batch_sizes:
        for share in args.shares:
            for name, function in prune.items():
                if any((row['batch'], row['share'], row['pruner']) == (batch, share, name) for row in rows):
                    continue
                rows.append(dict(batch=batch, share=share, pruner=name) | row(
                    net, lambda: function(share, batch), image, batch, train, test, args))  # noqa: B023
                print(rows[-1], flush=True)
                write_json(args.out, dict(settings=settings, rows=rows))


def row(net: nn.Module, prune: Callable[[], dict], image: Tensor, batch: int, train: Data, test: Data,
        args: argparse.Namespace) -> dict:
    """Prune once, and measure what is left before and after each correction."""
    try:
        found = prune()
    except InfeasibleError as error:
        return dict(infeasible=str(error))
    pruned, calibrated = found.pop('pruned'), found.pop('calibrated', None)
    found |= latencies(net, pruned, image, batch) | dict(macs=count_macs(pruned, (image,)) / count_macs(net, (image,)))
    if args.net == UNTRAINED:
        return found
    found['accuracy'] = accuracy(pruned, test)
    if calibrated is not None:
        found['calibrated'] = accuracy(calibrated, test)
    if not args.steps:
        return found
    start = time.process_time()
    unlabelled = train[0][:args.unlabelled_samples]
    better = distilled(net, pruned if calibrated is None else calibrated, unlabelled, args.steps)
    return found | dict(distilled=accuracy(better, test), distillation_s=round(time.process_time() - start, 1))


if __name__ == '__main__':
    main()
