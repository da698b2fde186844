"""Learn the module of a trained classifier."""
import copy
import math
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import copy_model, frozen_random
from mmreuse.modularization.head import ModuleHead, fit_head, record_module, select_classes
from mmreuse.modularization.masks.budget import check_share, hold_budget, mask_saliency, rank_masks
from mmreuse.modularization.masks.masks import apply_masks, mask_parameters, mask_ratio, train_masks
from mmreuse.modularization.masks.states import load_mask_state, mask_state, materialize
from mmreuse.modularization.original import original_labels
from mmreuse.modularization.report import recalls, report_of
from mmreuse.modularization.snapshots import Snapshots
from mmreuse.networks import open_network
from mmreuse.networks.references import Reference
from mmreuse.statistics import BATCH_SIZE, Data, all_labelled, device_of, logits_of
from mmreuse.utils.class_split import balanced_order
from mmreuse.utils.files.io import PathLike, state_hash
from mmreuse.utils.progress import progress
from mmreuse.utils.schedule import polynomial

#: Steps between two corrections of the masks.
_INTERVAL = 10
#: Of Adam, near the median gradient of a mask: weights that matter little then move little.
_EPS = 1e-4
#: However few samples there are, masks need so many steps to find what is needed.
_LEAST_STEPS = 200
#: Looks at validation data.
_LOOKS = 10


def modularize(model: Reference, data: Data, classes: Collection[int] | Tensor | np.ndarray, *,
               ratio: float = 0.15, epochs: int = 12, lr: float = 0.01, head_lr: float = 0.01, end: float = 0.6,
               validation: Data | None = None, seed: int = 0, folder: PathLike | None = None) -> nn.Sequential:
    """Keep the part of a trained classifier that tells some classes apart, or one class from the rest.

    ::

        cats = modularize(net, (images, labels), [3])            # scores of: class 3, the rest
        vehicles = modularize(net, loader, [0, 1, 8, 9])         # scores of the four classes
        print(cats.report)                                       # what module, head alone and original get right
        small = compact(cats, images[:8])

    The head is fitted to the whole network, masks start from saliencies and are held to a budget that shrinks to
    ``ratio``. With validation data the best state within the budget is taken, otherwise the last. A module that is no
    better than chance, or far below a head on the whole network, is said to be so in a warning.

    Args:
        model: From images to logits, or its file; left as it is. In half precision it is trained in float32.
        data: Images (N, C, H, W) and labels (N,) of the model's classes; a data set, or batches, of both. For several
            classes the samples of others are left out; for one class, as many of the others are drawn in every epoch.
        classes: Ids, in the order of the scores. One: the class against the rest.
        ratio: Share of the weights to keep, in (0, 1].
        epochs: Of training, at least; there are always 200 steps.
        lr: Of the masks, for Adam, falling along a cosine.
        head_lr: Of the head.
        end: Share of the training after which the budget stays as it is, in [0, 1].
        validation: As ``data``, not of the test set, to choose by and for the report; otherwise that is about ``data``.
        seed: Of all random draws, dropout's as well; the global generators are left as they are.
        folder: Where the state is kept about once a minute: killed and called again with the same arguments, it resumes
            and ends with the same module, bit for bit. Whoever keeps the module removes the folder.

    Returns:
        nn.Sequential: A plain network with zeros, and the head behind it. Its ``report`` is a
        :class:`~mmreuse.modularization.report.ModuleReport`.

    Raises:
        ConfigError: A number is out of range, classes repeat, or a layer cannot be masked.
        DataError: A class has no samples, or one class has no others to be told from.
    """
    check_share(ratio)
    model = open_network(model)
    classes = _ids(classes)
    if epochs < 1 or len(set(classes)) < len(classes) or not classes:
        raise ConfigError(f'modularize: epochs={epochs}, classes={classes}. At least one epoch is needed, and '
                          'distinct classes.')
    if not 0 <= end <= 1 or not lr > 0 or not head_lr > 0:
        raise ConfigError(f'modularize: end={end} has to be in [0, 1], lr={lr} and head_lr={head_lr} above 0.')
    with frozen_random(seed):
        problem = _Problem.of(data, classes, 'data')
        chosen = None if validation is None else _Problem.of(validation, classes, 'validation')
        return _Learner(model, problem, chosen, seed).learn(ratio, epochs, lr, head_lr, end, folder)


def _ids(classes: Collection[int]) -> list[int]:
    """Return classes as a list; a set in rising order.

    Raises:
        ConfigError: One is no integer.
    """
    classes = sorted(classes) if isinstance(classes, Set) else classes
    values = np.asarray(classes)
    if values.ndim != 1 or len(values) and values.dtype.kind not in 'iu':
        raise ConfigError(f'modularize: classes={classes} are not ids of classes. Give a list of integers, such as '
                          '[3].')
    return values.tolist()


@dataclass(frozen=True, eq=False)
class _Problem:
    """Samples of a target problem."""
    images: Tensor  # (N, C, H, W)
    original: Tensor  # (N,) of the network's classes
    labels: Tensor  # (N,) of the target problem
    classes: list[int]

    @classmethod
    def of(cls, data: Data, classes: list[int], what: str) -> '_Problem':
        """Return those of some data that the problem is about."""
        images, original = all_labelled(data, nn.Identity(), f'modularize: {what}')
        labels = torch.full_like(original, len(classes))
        for number, label in enumerate(classes):
            labels[original == label] = number
        if len(classes) > 1:
            own = labels < len(classes)
            images, original, labels = images[own.to(images.device)], original[own], labels[own]
        names = [*classes] if len(classes) > 1 else [*classes, 'the rest']
        absent = [name for number, name in enumerate(names) if not (labels == number).any()]
        if absent:
            raise DataError(f'modularize: {what} has no samples of {", ".join(map(str, absent))}. One class needs '
                            'samples of others to be told from, several need samples of each.')
        return cls(images, original, labels, classes)

    @cached_property
    def hash(self) -> str:
        """Return the hash of the samples and their labels."""
        return state_hash(dict(images=self.images, original=self.original))

    @property
    def binary(self) -> bool:
        """Return whether one class is told from the rest."""
        return len(self.classes) == 1

    @property
    def names(self) -> list[str]:
        """Return the names of the labels."""
        return ['the class', 'the rest'] if self.binary else [str(label) for label in self.classes]

    def epoch(self, draw: int) -> list[Tensor]:
        """Return the places of the samples of one epoch, in batches of about equal size."""
        places = torch.arange(len(self.labels))
        if self.binary:
            own, rest = ((self.labels == label).nonzero()[:, 0] for label in (0, 1))
            order = rest[torch.from_numpy(balanced_order(self.original[rest].numpy(), draw))]
            places = torch.cat([own, order[torch.arange(len(own)) % len(order)]])
        mixed = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(draw))]
        return list(mixed.tensor_split(math.ceil(len(mixed) / BATCH_SIZE)))

    def even(self) -> Tensor:
        """Return the places of all samples; of one class against the rest, those of the fewer repeated."""
        if not self.binary:
            return torch.arange(len(self.labels))
        parts = [(self.labels == label).nonzero()[:, 0] for label in (0, 1)]
        size = max(map(len, parts))
        return torch.cat([part[torch.arange(size) % len(part)] for part in parts])


class _Learner:
    """Learns one module."""

    def __init__(self, model: nn.Module, problem: _Problem, validation: _Problem | None, seed: int) -> None:
        self.model = model
        self.problem = problem
        self.validation = validation
        self.measured = validation or problem
        self.seed = seed
        self.device = device_of(model)
        self.precisions = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        wide = torch.float64 in self.precisions.values()
        self.dtype = torch.float64 if wide else torch.float32
        self.base = copy_model(model).to(self.dtype).eval()

    def learn(self, ratio: float, epochs: int, lr: float, head_lr: float, end: float,
              folder: PathLike | None) -> nn.Sequential:
        """Learn the module, see :func:`modularize`."""
        predicted = self._start_head()
        apply_masks(self.base)
        train_masks(self.base)
        optimizer = torch.optim.Adam([dict(params=list(mask_parameters(self.base).values()), lr=lr),
                                      dict(params=list(self.head.parameters()), lr=head_lr)], eps=_EPS)
        steps = max(epochs * len(self.problem.epoch(self.seed)), _LEAST_STEPS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        last = int(end * steps)
        gap = _INTERVAL * math.ceil((steps - last + 1) / (_LOOKS * _INTERVAL))
        snapshots = Snapshots(folder, lambda: [state_hash(self.model), self.problem.hash, self.measured.hash, self.seed,
                                               self.problem.classes, ratio, steps, lr, head_lr, end],
                              [optimizer, schedule, self.head])
        done, best, state = self._resume(snapshots)
        for step, places in enumerate(self._places(steps), 1):
            if step <= done:
                continue
            optimizer.zero_grad()
            self._loss(places).backward()
            optimizer.step()
            schedule.step()
            if step % _INTERVAL and step < steps:
                continue
            hold_budget(self.base, 1 - polynomial(step, 0, last, 1 - ratio))
            if step == steps or self.validation is not None and step >= last and step % gap == 0:
                accuracy = sum(recalls(self._predict(), self.measured.labels, len(self.problem.names)))
                if accuracy >= best or self.validation is None:
                    best, state = accuracy, self._state()
            snapshots.save(done=step, best=best, state=state, masks=mask_parameters(self.base))
        return self._finish(state, predicted)

    def _start_head(self) -> dict[str, Tensor]:
        """Fit a head to the whole network; predictions of both for the samples that count."""
        logits = self._logits(self.problem.images)
        self.head = ModuleHead(logits.shape[1], len(self.problem.names)).to(self.device, self.dtype)
        select_classes(self.head, self.problem.classes)
        places = self.problem.even()
        fit_head(self.head, logits[places], self.problem.labels[places].to(self.device))
        if self.validation is not None:
            logits = self._logits(self.validation.images)
        with torch.no_grad():
            return {'original': original_labels(logits, self.problem.classes, self.problem.binary).cpu(),
                    'head only': self.head(logits).argmax(1).cpu()}

    def _resume(self, snapshots: Snapshots) -> tuple[int, float, dict[str, Any]]:
        """Return the steps that are done, the best accuracy so far and its state; set the masks."""
        saved = snapshots.load()
        if saved is None:
            batches = progress(self.problem.epoch(self.seed), 'saliency')
            rank_masks(self.base, mask_saliency(self.base, self._loss, batches))
            return 0, -1., {}
        load_mask_state(self.base, saved['masks'])
        return saved['done'], saved['best'], saved['state']

    def _places(self, steps: int) -> Iterator[Tensor]:
        """Yield the batches of places, as many as there are steps."""
        drawn, epoch = [], self.seed
        for _ in progress(range(steps), 'modularize'):
            if not drawn:
                drawn, epoch = self.problem.epoch(epoch), epoch + 1
            yield drawn.pop()

    def _loss(self, places: Tensor) -> Tensor:
        images = self.problem.images[places.to(self.problem.images.device)].to(self.device, self.dtype)
        return F.cross_entropy(self.head(self.base(images)), self.problem.labels[places].to(self.device))

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits of the network as it is, in evaluation mode."""
        self.base.eval()
        parts = images.tensor_split(math.ceil(len(images) / BATCH_SIZE))
        return torch.cat([logits_of(self.base(part.to(self.device, self.dtype))) for part in parts])

    @torch.no_grad()
    def _predict(self) -> Tensor:
        predicted = self.head(self._logits(self.measured.images)).argmax(1).cpu()
        train_masks(self.base)
        return predicted

    def _state(self) -> dict[str, Any]:
        return dict(masks=mask_state(self.base), head=copy.deepcopy(self.head.state_dict()),
                    ratio=mask_ratio(self.base))

    @torch.no_grad()
    def _finish(self, state: dict[str, Any], predicted: dict[str, Tensor]) -> nn.Sequential:
        """Put the chosen state together, in the network's own precision, and say what it can."""
        self.base = materialize(self.base, {name: mask.to(self.device) for name, mask in state['masks'].items()})
        self.head.load_state_dict(state['head'])
        predicted['module'] = self.head(self._logits(self.measured.images)).argmax(1).cpu()
        tensors = self.base.state_dict(keep_vars=True)
        for name, dtype in self.precisions.items():
            tensors[name].data = tensors[name].data.to(dtype)
        own = next((dtype for dtype in self.precisions.values() if dtype.is_floating_point), self.dtype)
        module = nn.Sequential(self.base, self.head.to(own)).eval()
        module.report = report_of(predicted, self.measured.labels, self.problem.names, state['ratio'],
                                  'training data' if self.validation is None else 'validation data')
        module.report.warn()
        return record_module(module, self.model, state['masks'], self.problem.names)
