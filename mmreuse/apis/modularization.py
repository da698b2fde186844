"""Learn modules from a notebook."""
import copy
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mmreuse.apis.data import BATCH_SIZE, batches
from mmreuse.datasets.samples import balanced_order
from mmreuse.errors import ConfigError, DataError
from mmreuse.modularization import (
    ModuleHead,
    apply_masks,
    bake,
    fit_head,
    hold_budget,
    mask_parameters,
    mask_saliency,
    rank_masks,
    select_classes,
    train_masks,
)
from mmreuse.modularization.budget import check_share
from mmreuse.pruning import polynomial

#: Steps between two corrections of the masks.
_INTERVAL = 10
#: Of Adam, near the median gradient of a mask: weights that matter little then move little.
_EPS = 1e-4


def modularize(model: nn.Module, data: tuple[Tensor, Tensor] | Dataset | Iterable, classes: Sequence[int], *,
               ratio: float = 0.15, epochs: int = 12, lr: float = 0.01, head_lr: float = 0.01, end: float = 0.6,
               seed: int = 0) -> nn.Sequential:
    """Keep the part of a trained classifier that tells some classes apart, or one class from the rest.

    ::

        cats = modularize(net, (images, labels), [3])            # scores of: class 3, the rest
        vehicles = modularize(net, loader, [0, 1, 8, 9])         # scores of the four classes
        small = compact(cats, images[:8])

    The head is fitted to the whole network, masks start from saliencies and are held to a budget that shrinks to
    ``ratio``. What is learned last is taken; runs of configs choose on validation data instead.

    Args:
        model: From images to logits; left as it is.
        data: Images (N, C, H, W) and labels (N,) of the model's classes; a data set, or batches, of both. For several
            classes the samples of others are left out; for one class, as many of the others are drawn.
        classes: Ids. One: the class against the rest.
        ratio: Share of the weights to keep, in (0, 1].
        epochs: Of training.
        lr: Of the masks, for Adam, falling along a cosine.
        head_lr: Of the head.
        end: Share of the training after which the budget stays as it is.
        seed: Of order and choice.

    Returns:
        nn.Sequential: A plain network with zeros, and the head behind it.

    Raises:
        ConfigError: A number is out of range, classes repeat, or a layer cannot be masked.
        DataError: A class has no samples.
    """
    check_share(ratio)
    if epochs < 1 or len(set(classes)) < len(classes) or not classes:
        raise ConfigError(f'modularize: epochs={epochs}, classes={list(classes)}. At least one epoch is needed, and '
                          'distinct classes.')
    images, labels = _problem(data, list(classes), seed)
    base = copy.deepcopy(model).eval()
    with torch.no_grad():
        logits = torch.cat([base(part) for part in images.split(BATCH_SIZE)])
    head = ModuleHead(logits.shape[1], max(2, len(classes))).to(logits.device)
    select_classes(head, classes)
    fit_head(head, logits, labels)
    apply_masks(base)
    train_masks(base)
    module = nn.Sequential(base, head)

    def loss(batch: Sequence[Tensor]) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1])

    loader = DataLoader(TensorDataset(images, labels), BATCH_SIZE, shuffle=True,
                        generator=torch.Generator().manual_seed(seed))
    rank_masks(base, mask_saliency(base, loss, loader))
    optimizer = torch.optim.Adam([dict(params=list(mask_parameters(base).values()), lr=lr),
                                  dict(params=list(head.parameters()), lr=head_lr)], eps=_EPS)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, batch in enumerate(chain.from_iterable(repeat(loader, epochs)), 1):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
        schedule.step()
        if step % _INTERVAL == 0 or step == steps:
            hold_budget(base, 1 - polynomial(step, 0, int(end * steps), 1 - ratio))
    return nn.Sequential(bake(base), head).eval()


def _problem(data: tuple[Tensor, Tensor] | Dataset | Iterable, classes: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """Images and labels of the target problem."""
    images, labels = (torch.cat(parts) for parts in zip(*batches(data), strict=True))
    members = [torch.nonzero(labels == label)[:, 0] for label in classes]
    absent = [label for label, own in zip(classes, members, strict=True) if not len(own)]
    if absent:
        raise DataError(f'modularize: there are no samples of the classes {absent}.')
    if len(classes) == 1:
        others = torch.nonzero(labels != classes[0])[:, 0].cpu()
        chosen = others[torch.from_numpy(balanced_order(labels[others].cpu().numpy(), seed))]
        members.append(chosen[:len(members[0])].to(labels.device))
    targets = torch.cat([torch.full_like(own, number) for number, own in enumerate(members)])
    return images[torch.cat(members)], targets
