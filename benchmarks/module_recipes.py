"""Steps to a module: the published recipe of 300 epochs beside the fast default, at equal sparsity.

    python benchmarks/module_recipes.py --out module_recipes.json

On a network of the embedded digits, trained here, and superclasses of them. The reference runs its 300 epochs and keeps
the sparsest state that is not below the original network on validation data. The default then gets the share of weights
that this state keeps as its budget, and runs of growing length are tried until one is at least as accurate on
validation data. ``ratio`` is in steps, ``reference_accuracy`` and ``ours_accuracy`` are on the test data.
"""
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _common import parse_args, write

from mmreuse.engine.run_config import run_config
from mmreuse.utils.files.io import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
#: Classes of each problem.
CASES = {'digits 1, 4, 7': [1, 4, 7], 'digits 3, 5, 8, 9': [3, 5, 8, 9], 'digits 0, 2, 6': [0, 2, 6]}
#: Epochs of the default that are tried.
LENGTHS = (6, 12, 24, 36, 60, 100)
PUBLISHED = 300

CONFIG = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/seam/{recipe}.py']
_problem = dict(type='ClassProblem', classes={classes})
train_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{{{_base_.train_dataloader.dataset}}}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{{{_base_.val_dataloader.dataset}}}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{{{_base_.test_dataloader.dataset}}}}))
model = dict(
    in_classes=10, out_classes={labels},
    base=dict(checkpoint='{checkpoint}', model=dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='CifarResNet', depth=14),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64))))
default_hooks = dict(logger=dict(interval=1000), checkpoint=dict(interval=1000))
"""


def run(folder: Path, recipe: str, options: dict[str, Any], **values: Any) -> tuple[dict[str, float], float]:
    """Learn a module: the state that was taken, and its accuracy on the test data in percent."""
    folder.mkdir()
    config = folder / 'module.py'
    config.write_text(CONFIG.format(root=ROOT, recipe=recipe, labels=len(values['classes']), **values))
    metrics = run_config(config, work_dir=folder, options=options)
    selection = load_checkpoint(folder / 'selection.pth')['selections'][0]
    return selection['best'] or selection['backup'], metrics['test/accuracy/top1']


def compare(folder: Path, classes: list[int], checkpoint: str) -> dict[str, Any]:
    """Both recipes on one problem."""
    start = time.process_time()
    published = {'model.alpha': 1., 'optim_wrapper.optimizer.lr': 0.05, 'train_cfg.max_epochs': PUBLISHED}
    goal, accuracy = run(folder / 'published', '_base_published', published, classes=classes, checkpoint=checkpoint)
    seconds = [time.process_time() - start]
    for epochs in LENGTHS:
        start = time.process_time()
        options = {'train_cfg.max_epochs': epochs, 'custom_hooks.1.ratio': goal['ratio'],
                   'custom_hooks.2.max_ratio': goal['ratio'] + 1e-3}
        ours, own = run(folder / f'fast-{epochs}', '_base_module', options, classes=classes, checkpoint=checkpoint)
        if ours['accuracy'] >= goal['accuracy']:
            break
    return dict(
        reference_s=seconds[0], ours_s=time.process_time() - start, ratio=PUBLISHED / epochs, epochs=epochs,
        reached=ours['accuracy'] >= goal['accuracy'], kept=goal['ratio'],
        reference_accuracy=accuracy, ours_accuracy=own)


def main() -> None:
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_config(ROOT / 'configs/quickstart/resnet_digits.py', work_dir=folder / 'base')
        for number, (case, classes) in enumerate(CASES.items()):
            (folder / str(number)).mkdir()
            results[case] = compare(folder / str(number), classes, str(folder / 'base' / 'epoch_12.pth'))
            write(args.out, results)


if __name__ == '__main__':
    main()
