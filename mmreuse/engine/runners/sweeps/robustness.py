"""Measure the share of a public network's defects that networks made from it inherit."""
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from mmreuse.engine.classifiers import plain
from mmreuse.engine.hooks.transfer import best_checkpoint
from mmreuse.engine.runners.sweep import SweepRunner
from mmreuse.errors import ConfigError
from mmreuse.models.classifiers import load_pretrained
from mmreuse.pruning import measure_sparsity
from mmreuse.registry import MODELS, RUNNERS
from mmreuse.robustness import Attacker, defect_inheritance, find_attack, pixel_bounds
from mmreuse.utils.files.cache import StageCache
from mmreuse.utils.files.io import file_hash
from mmreuse.utils.files.safe_loading import checkpoint_path
from mmreuse.utils.progress import progress
from mmreuse.visualization.robustness import draw_inheritance


@RUNNERS.register_module()
class RobustnessRunner(SweepRunner):
    """Defect inheritance rates of networks that were fine-tuned from the same public one.

    Config: ``model`` (mmpretrain's ``ImageClassifier``, of the students), ``data_preprocessor``, ``test_dataloader``,
    and ``robustness`` with

    - ``teacher``: checkpoint of the public network, a path or ``torchvision://NAME``; its backbone is that of
      ``model``,
    - ``students``: names to checkpoints or folders of runs, relative to the work_dir,
    - ``attacks``: names to configs of :data:`mmreuse.registry.ATTACKS`,
    - ``cache``: folder for perturbations (``'work_dirs/cache'``).

    A row holds, in percent, ``dir``, the defect inheritance rate, with its 95 % interval ``dir_low`` to ``dir_high``,
    the accuracies ``clean`` and ``attacked``, and ``zeros``, the share of zeros among the weights of the backbone.
    """

    stage = 'robustness'
    keys = ('teacher', 'students', 'attacks', 'cache')
    needed = ('teacher', 'students', 'attacks')
    columns = ('student', 'attack')
    named = {'student': 'students', 'attack': 'attacks'}
    lists = ('cache', )

    @property
    def settings(self) -> tuple[str, ...]:
        """Return the settings, without training data."""
        return 'model', self.stage, 'data_preprocessor', 'test_dataloader'

    def recorded_settings(self) -> dict[str, Any]:
        """Return the settings, with the content of the students beside their names."""
        settings = super().recorded_settings()
        students = settings[self.stage]['students']
        for name in students:
            students[name] = file_hash(self._checkpoint(name))
        return settings

    def inputs(self) -> dict[str, str]:
        """Return the public network."""
        return dict(teacher=file_hash(checkpoint_path(self.part['teacher'])))

    def check(self) -> None:
        """Check also that attacks and checkpoints exist.

        Raises:
            ArtefactError: A checkpoint is missing.
        """
        super().check()
        for attack in self.part['attacks'].values():
            find_attack(attack)
        for name in self.part['students']:
            self._checkpoint(name)

    @torch.no_grad()
    def execute(self) -> dict[str, Any]:
        """Measure the cells that are missing in the table."""
        self.prepare()
        cells = [(student, attack) for student in self.part['students'] for attack in self.part['attacks']
                 if not self.has(student=student, attack=attack)]
        students = {name: _fast(self.load_classifier(self._checkpoint(name))) for name in dict(cells)}
        for (student, attack), (clean, attacked) in self._answers(cells, students).items():
            found = defect_inheritance(clean, attacked)
            self.add(dict(dir=found.rate, dir_low=found.low, dir_high=found.high, clean=found.clean,
                          attacked=found.attacked, zeros=100 * measure_sparsity(students[student].backbone).listed),
                     student=student, attack=attack)
        self.write()
        return self.metrics()

    def draw(self) -> Figure:
        """Rates of every student under every attack."""
        return draw_inheritance(self.rows)

    def _checkpoint(self, student: str) -> Path:
        return best_checkpoint(self.root / self.part['students'][student])

    def _answers(self, cells: list[tuple[str, str]],
                 students: dict[str, nn.Module]) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
        """Return whether each image is classified correctly, clean and attacked, for each student and attack."""
        teacher = self._teacher()
        attacker = Attacker(_fast(PooledFeatures(teacher)), _bounds(teacher.data_preprocessor),
                            StageCache(self.part.get('cache', 'work_dirs/cache')))
        attacks = {attack: self.part['attacks'][attack] for _, attack in cells}
        clean: dict[str, list[Tensor]] = {name: [] for name in students}
        attacked: dict[tuple[str, str], list[Tensor]] = {cell: [] for cell in cells}
        for number, batch in enumerate(progress(self.test_loader, 'attacks')):
            data = teacher.data_preprocessor(batch)
            images, labels = data['inputs'], torch.cat([sample.gt_label for sample in data['data_samples']])
            for name, student in students.items():
                clean[name].append(student(images).argmax(1) == labels)
            for attack, cfg in attacks.items():
                moved = attacker(images, cfg, self.seed + number)
                for name, student in students.items():
                    if (name, attack) in attacked:
                        attacked[name, attack].append(student(moved).argmax(1) == labels)
        return {cell: (torch.cat(clean[cell[0]]), torch.cat(parts)) for cell, parts in attacked.items()}

    def _teacher(self) -> ImageClassifier:
        teacher = MODELS.build({'data_preprocessor': plain(self.cfg.data_preprocessor), **plain(self.cfg.model)})
        load_pretrained(teacher.backbone, self.part['teacher'])
        return teacher.to(self.device).eval()


class PooledFeatures(nn.Module):
    """Inputs of a classifier's output layer, (N, D)."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.backbone = classifier.backbone
        self.neck = classifier.neck

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of the backbone's last stage."""
        return self.neck(self.backbone(images))[-1]


def _bounds(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    if not preprocessor._enable_normalize:
        raise ConfigError('data_preprocessor: an attack needs to know how pixels are normalised. Give mean and std.')
    return pixel_bounds(preprocessor.mean, preprocessor.std)


def _fast(network: nn.Module) -> nn.Module:
    """On CPUs, depthwise convolutions take half the time with channels last."""
    return network.to(memory_format=torch.channels_last)
