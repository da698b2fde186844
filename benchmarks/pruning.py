"""Prune networks, correct what is left without labels, and set Torch-Pruning on the same budgets beside.

    pip install torch-pruning==1.6.1        # not a requirement
    python benchmarks/pruning.py resnet20 --checkpoint data/weights/cifar10_resnet20.safetensors --torch-pruning

Rows: nothing, RESET, REPAIR and calibration on some training images, then an epoch on some with labels; Torch-Pruning's
default importance and its removal, as it is, after RESET, and after the same epoch. Budgets: a share of the channels of
every space (``all``), of those inside blocks (``inner``), of the multiply-accumulates (``macs``), or of the single
weights (``elements``). Nothing is chosen on test images. Rows that the file holds are not measured again.
"""
import argparse
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import timm
import torch
from matplotlib.figure import Figure
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mmreuse.calibration import Source
from mmreuse.datasets import Digits, InMemoryImageFolder
from mmreuse.graph import copy_model, transform
from mmreuse.models.backbones import CifarResNet, CifarVGG
from mmreuse.pruning import measure_sparsity, prune_weights
from mmreuse.pruning.channels.channels import dense_targets, select_channels
from mmreuse.registry import Method
from mmreuse.renormalization import apply_renormalizers, find_served
from mmreuse.statistics import solve_ridge
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.files.io import load_checkpoint, write_json

Data = tuple[Tensor, Tensor]


class Classifier(nn.Module):
    """A backbone, global pooling and a linear layer."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        return self.head(self.backbone(x)[-1].mean((2, 3)))


def residual(depth: int, weights: Path, budget: str) -> nn.Module:
    """A ResNet of CIFAR-10. Where its streams shrink too, shortcuts that pad with zeros are written as the convolutions
    that they are; what is zero in those is 1e-8, since calibration leaves zeros as they are."""
    net = Classifier(CifarResNet(depth=depth, shortcut='pad' if budget in ('inner', 'elements') else 'conv1x1'), 64)
    state = {key.replace('linear', 'head') if key.startswith('linear') else f'backbone.{key}': value
             for key, value in load_checkpoint(weights).items()}
    for module in net.modules():
        if type(module).__name__ == 'ConvShortcut':
            conv, _ = module
            module[1] = nn.Identity()
            start = (conv.out_channels - conv.in_channels) // 2
            nn.init.normal_(conv.weight, std=1e-8)
            conv.weight.data[start:start + conv.in_channels, :, 0, 0] += torch.eye(conv.in_channels)
    missing, unknown = net.load_state_dict(state, strict=False)
    if unknown or any('shortcut' not in name for name in missing):
        raise SystemExit(f'{weights} is not of a ResNet-{depth}: {unknown or missing}')
    return net.eval()


def vgg(train: Data) -> nn.Module:
    """A VGG-11-BN of half width, trained here for two epochs."""
    torch.manual_seed(0)
    net = Classifier(CifarVGG(depth=11, width=32, norm='bn', last_pool='avg', init='vgg_init'), 256)
    return fit(net, train, 2, rate=0.05)


def vit(train: Data) -> nn.Module:
    """A ViT of the digits, trained here in a minute."""
    torch.manual_seed(0)
    net = timm.models.VisionTransformer(img_size=8, patch_size=2, embed_dim=64, depth=6, num_heads=4, mlp_ratio=2.,
                                        num_classes=10)
    for block in net.blocks:
        block.attn.fused_attn = False  # which Torch-Pruning does not follow
    return fit(net, train, 30, 'adamw', 2e-3)


def wide(weights: Path, train: Data) -> nn.Module:
    """A ResNet-20 of twice the width, trained on five classes of CIFAR-10-JPEG by ``configs/zipit/sources``, and a
    least-squares classifier of all ten on 2000 images."""
    net = Classifier(CifarResNet(depth=20, width=32, shortcut='conv3x3'), 128).eval()
    prefix = 'backbone.'
    net.backbone.load_state_dict({key.removeprefix(prefix): value
                                  for key, value in load_checkpoint(weights)['state_dict'].items()
                                  if key.startswith(prefix)})
    images, labels = (each[:2000] for each in train)
    with torch.no_grad():
        x = torch.cat([net.backbone(batch)[-1].mean((2, 3)) for batch in images.split(250)]).double()
        t = nn.functional.one_hot(labels, 10).double()
        mean, rate = x.mean(0), t.mean(0)
        gram = (x - mean).T @ (x - mean)
        weight = solve_ridge(gram, (t - rate).T @ (x - mean), 0.01 * gram.diagonal().mean())
        net.head.weight.copy_(weight)
        net.head.bias.copy_(rate - weight @ mean)
    return net


RESNETS = dict(resnet20=partial(residual, 20), resnet56=partial(residual, 56))
#: Labelled images that are shown to networks that are trained here.
SHOWN = {'vgg11': 30000, 'resnet20-2x': 2000}


def folders(root: Path, split: str, count: int) -> Data:
    """Draw images of CIFAR-10-JPEG, normalised."""
    images = InMemoryImageFolder(data_root=str(root), data_prefix=split, pipeline=[])
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count].tolist()
    pixels = torch.stack([torch.from_numpy(images[each]['img']) for each in chosen]).permute(0, 3, 1, 2).flip(1)
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (
        (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    return (pixels - mean) / deviation, torch.tensor([images[each]['gt_label'] for each in chosen])


def digits(split: str) -> Data:
    """All images of a split."""
    items = list(Digits(split=split, pipeline=[]))
    pixels = torch.stack([torch.from_numpy(each['img']) for each in items]).permute(0, 3, 1, 2)
    return (pixels - 78.) / 94., torch.tensor([each['gt_label'] for each in items])


def fit(net: nn.Module, data: Data, epochs: int = 1, optimizer: str = 'sgd', rate: float = 0.01) -> nn.Module:
    """Train with labels: batches of 64, mirrored and moved images of CIFAR, a rate that falls along a cosine."""
    generator = torch.Generator().manual_seed(0)
    images, labels = data
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.05) if optimizer == 'adamw' else \
        torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    steps = epochs * (len(images) // 64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    bfloat16 = torch.autocast('cpu', torch.bfloat16, enabled=images.shape[-1] == 32)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(64)[:len(images) // 64]:
            x = images[batch]
            if x.shape[-1] == 32:
                mirrored = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
                x = nn.functional.pad(torch.where(mirrored, x.flip(3), x), (4, 4, 4, 4))
                top, left = torch.randint(0, 9, (2,), generator=generator).tolist()
                x = x[:, :, top:top + 32, left:left + 32]
            with bfloat16:
                scores = net(x)
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores.float(), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, data: Data) -> float:
    """Percent, in bfloat16."""
    with torch.autocast('cpu', torch.bfloat16):
        right = sum(int((net(x).argmax(1) == y).sum())
                    for x, y in zip(*(each.split(250) for each in data), strict=True))
    return round(100 * right / len(data[1]), 2)


def streams(net: nn.Module) -> list[str]:
    """Regular expressions of the spaces that are not inside blocks."""
    if isinstance(net, timm.models.VisionTransformer):
        return ['blocks']
    return [r'(?!.*\d\.conv1).*'] if isinstance(net.backbone, CifarResNet) else []


def ours(net: nn.Module, image: Tensor, budget: str, share: float, loader: DataLoader) -> Iterator[
        tuple[str, nn.Module, float]]:
    """Yield what is left, and what it is after each correction, with the seconds that it took."""
    if budget == 'elements':
        yield from elements(net, share, loader)
        return
    exclude = streams(net) if budget == 'inner' else []
    cost = 'macs' if budget == 'macs' else 'channels'
    start = time.perf_counter()
    selection = select_channels(net, image, share, cost=cost, exclude=exclude)
    graph, maps = selection.graph, selection.maps
    pruned = transform(graph, maps)
    yield 'nothing', pruned, time.perf_counter() - start
    for method in corrections(net, loader):
        start = time.perf_counter()
        corrected = copy_model(pruned)
        apply_renormalizers(corrected, loader, method, targets=dense_targets(method, graph, maps, loader),
                            sources=[Source.mapped(graph, maps)])
        yield method.name, corrected, time.perf_counter() - start


def elements(net: nn.Module, share: float, loader: DataLoader) -> Iterator[tuple[str, nn.Module, float]]:
    """Yield the same for single weights, the largest of all layers together."""
    start = time.perf_counter()
    pruned = copy_model(net)
    prune_weights(pruned, None, 1 - share)
    zeros = measure_sparsity(pruned).listed
    yield 'nothing', pruned, time.perf_counter() - start
    for method in corrections(net, loader):
        start = time.perf_counter()
        corrected = copy_model(pruned)
        apply_renormalizers(corrected, loader, method, ends=[net], sources=[Source(net)])
        assert measure_sparsity(corrected).listed == zeros
        yield method.name, corrected, time.perf_counter() - start


def corrections(net: nn.Module, loader: DataLoader) -> list[Method]:
    """Those that fit a network."""
    normed = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    return find_served([dict(type=name, samples=len(loader.dataset))
                        for name in (('reset',) if normed else ()) + ('repair', 'calibrate')], loader, None)


def theirs(net: nn.Module, image: Tensor, budget: str, share: float, loader: DataLoader) -> Iterator[
        tuple[str, nn.Module, float]]:
    """Yield what Torch-Pruning leaves, and the same after RESET."""
    start = time.perf_counter()
    pruned = _removed(net, image, share, budget) if budget != 'macs' else _down_to(net, image, share)
    yield 'nothing', pruned, time.perf_counter() - start
    if any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        start = time.perf_counter()
        corrected = copy_model(pruned)
        method, = find_served([dict(type='reset', samples=len(loader.dataset))], loader, None)
        apply_renormalizers(corrected, loader, method)
        yield 'reset', corrected, time.perf_counter() - start


def _removed(net: nn.Module, image: Tensor, share: float, budget: str = 'all') -> nn.Module:
    """The same share of every layer's channels, by Torch-Pruning's default importance."""
    import torch_pruning
    pruned = copy_model(net)
    held, options = [each for name, each in pruned.named_modules() if name in ('head', 'classifier')], {}
    if budget == 'inner' and isinstance(pruned, Classifier) and isinstance(pruned.backbone, CifarResNet):
        held += [each for name, each in pruned.named_modules()
                 if isinstance(each, nn.Conv2d) and not ('layer' in name and name.endswith('conv1'))]
    if isinstance(pruned, timm.models.VisionTransformer):
        heads = {block.attn.qkv: block.attn.num_heads for block in pruned.blocks}
        options = dict(num_heads=heads, prune_num_heads=True, prune_head_dims=False, head_pruning_ratio=1 - share)
        if budget == 'inner':
            held += [pruned.patch_embed, pruned.cls_token, pruned.pos_embed,
                     *(layer for block in pruned.blocks for layer in (block.attn.proj, block.mlp.fc2))]
    torch_pruning.pruner.BasePruner(
        pruned, image, importance=torch_pruning.importance.GroupMagnitudeImportance(), pruning_ratio=1 - share,
        ignored_layers=held, **options).step()
    if isinstance(pruned, timm.models.VisionTransformer):
        for block in pruned.blocks:
            block.attn.num_heads = heads[block.attn.qkv]
            block.attn.attn_dim = block.attn.qkv.out_features // 3
            block.attn.head_dim = block.attn.qkv.out_features // (3 * block.attn.num_heads)
    return pruned.eval()


def _down_to(net: nn.Module, image: Tensor, share: float) -> nn.Module:
    """The widest of these that has at most a share of the multiply-accumulates, to a hundredth of the channels."""
    low, high = 1, 99
    while low < high:
        middle = (low + high + 1) // 2
        fits = count_macs(_removed(net, image, middle / 100), (image,)) <= share * count_macs(net, (image,))
        low, high = (middle, high) if fits else (low, middle - 1)
    return _removed(net, image, low / 100)


def draw(rows: Sequence[dict]) -> Figure:
    """Accuracy against the share kept, a panel for each budget."""
    budgets = list(dict.fromkeys(row['budget'] for row in rows if row['pruner'])) or ['inner']
    figure = Figure(figsize=(1 + 3.6 * len(budgets), 3.6), layout='constrained')
    for axes, budget in zip(figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0], budgets, strict=True):
        axes.axhline(rows[0]['accuracy'], color='grey', linewidth=1, linestyle='--', label='dense')
        lines = defaultdict(list)
        for row in rows:
            if row['budget'] == budget and not row['trained']:
                own = '' if row['pruner'] == 'mmreuse' else f'{row["pruner"]}, '
                lines[own + row['corrected']].append((row['share'], row['accuracy']))
        for name, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), marker='.', label=name)
        axes.set_title(budget)
        axes.set_xlabel('share kept')
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel('accuracy')
    figure.axes[0].legend(fontsize=7)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('net', nargs='?', default='vit', choices=(*RESNETS, 'resnet20-2x', 'vgg11', 'vit'))
    parser.add_argument('--checkpoint', type=Path, help='of a ResNet')
    parser.add_argument('--images', type=Path, default=Path('data/cifar10_jpeg'), help='default: %(default)s')
    parser.add_argument('--budgets', nargs='+', default=['inner', 'all', 'macs'])
    parser.add_argument('--shares', nargs='+', type=float, default=[0.7, 0.5, 0.3])
    parser.add_argument('--samples', type=int, default=400, help='number of training images that correct')
    parser.add_argument('--test-samples', type=int, default=10000, help='number of test images')
    parser.add_argument('--train-samples', type=int, default=0, help='number of labelled images of the epoch; 0: none')
    parser.add_argument('--torch-pruning', action='store_true', help='rows of it as well')
    parser.add_argument('--out', type=Path, help='rows as JSON')
    args = parser.parse_args(arguments)
    pruners = dict(mmreuse=ours)
    if args.torch_pruning:
        pruners['Torch-Pruning'] = theirs
        try:
            import torch_pruning  # noqa: F401
        except ImportError:
            raise SystemExit('Torch-Pruning is not installed: pip install torch-pruning==1.6.1, or leave '
                             '--torch-pruning out.') from None
    measure(args, pruners)


def measure(args: argparse.Namespace, pruners: dict) -> None:
    """Fill the file of rows."""
    torch.set_num_threads(1)
    warnings.filterwarnings('ignore')
    DefaultScope.get_instance('beside', scope_name='mmreuse')
    if args.net == 'vit':
        train, test = digits('train'), digits('test')
        nets = dict.fromkeys(args.budgets, vit(train))
    else:
        train = folders(args.images, 'train', SHOWN.get(args.net, max(args.train_samples, args.samples)))
        test = folders(args.images, 'test', args.test_samples)
        if args.net in RESNETS:
            nets = {budget: RESNETS[args.net](args.checkpoint, budget) for budget in args.budgets}
        else:
            nets = dict.fromkeys(args.budgets, vgg(train) if args.net == 'vgg11' else wide(args.checkpoint, train))
    rows = json.loads(args.out.read_text())['rows'] if args.out and args.out.exists() else []
    image, loader = train[0][:1], DataLoader(TensorDataset(*(each[:args.samples] for each in train)), 100)
    settings = dict(net=args.net, images=args.samples, test=len(test[1]), labelled=args.train_samples)

    def add(net: nn.Module, **cell: object) -> None:
        rows.append(cell | dict(macs=count_macs(net, (image,)), accuracy=accuracy(net, test)))
        print(rows[-1], flush=True)
        if args.out:
            write_json(args.out, dict(settings=settings, rows=rows))
            draw(rows).savefig(args.out.with_suffix('.png'), dpi=80)

    if not rows:
        add(nets[args.budgets[0]], budget='dense', share=1., pruner='', corrected='nothing', trained=False)
    for budget, share, (pruner, prune) in (
            (budget, share, each) for budget in args.budgets for share in args.shares for each in pruners.items()):
        if any((row['budget'], row['share'], row['pruner']) == (budget, share, pruner) for row in rows):
            continue
        if budget == 'elements' and pruner != 'mmreuse':
            continue
        for corrected, pruned, seconds in prune(nets[budget], image, budget, share, loader):
            cell = dict(budget=budget, share=share, pruner=pruner, corrected=corrected)
            add(pruned, **cell, trained=False, seconds=round(seconds, 1))
            if args.train_samples and budget == 'inner' and share < 0.7:
                add(fit(copy_model(pruned), tuple(each[:args.train_samples] for each in train), 1,
                        *(('adamw', 5e-4) if args.net == 'vit' else ('sgd', 0.01))), **cell, trained=True)


if __name__ == '__main__':
    main()
