"""Command lines that tools take, in the folder that :func:`furnish` fills, and the same with a hole for a file."""
import argparse
import contextlib
import io
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bad_command_lines import arguments_with, furnish, parser_of
from workspace import DERIVED, Workspace

#: Where a file goes.
HOLE = 'the-hole'
_NET, _CHECKPOINT = 'small/quickstart_resnet_digits.py', 'work_dirs/resnet_digits/epoch_1.pth'
_PAIR = 'small/quickstart_pair_digits.py work_dirs/pair_digits/net1_epoch_1.pth work_dirs/pair_digits/net2_epoch_1.pth'
_MERGE = 'small/quickstart_merge_digits.py'
_DERY = 'small/quickstart_dery_digits.py --work-dir results/quickstart_dery_digits'
_TIMES = '--batch-sizes 1 --rounds 2'
GOOD = {
    'analysis_tools/diagnose.py': [
        f'vanishing {_NET} {_CHECKPOINT} {_CHECKPOINT} --samples 32',
        f'outputs {_NET} {_CHECKPOINT} --pruned {_CHECKPOINT} --samples 32',
        f'residual {_NET} {_CHECKPOINT} {_CHECKPOINT} --plain {_NET} {_CHECKPOINT} {_CHECKPOINT} --samples 32'],
    'analysis_tools/print_spaces.py': [_NET],
    'check.py': ['network0.safetensors'],
    'dataset_converters/make_text_features.py': [
        'mine --classes names.txt --vectors vectors.csv', 'mine --classes names.txt --encoder orthonormal --dims 8',
        'mine --classes names.txt --encoder open_clip --weights epoch_1.pth'],
    'deployment/quantize.py': [f'network0.safetensors made.onnx --data {_NET} --samples 16 --slower {_TIMES}'],
    'deployment/table.py': [
        f'network0.safetensors --data {_NET} --samples 8 --engines torch --passes 1 {_TIMES}',
        f'{_NET}={_CHECKPOINT} --input-size 8 --engines torch --passes 1 {_TIMES}'],
    **{f'dery/{stage}.py': [_DERY] for stage in (
        'compute_similarity', 'count_inout_size', 'extract_features', 'partition', 'reassemble', 'run_pipeline')},
    'dery/evaluate_zoo.py': ['zoo.py'],
    'describe.py': ['network0.safetensors'],
    'job.py': ['prune_channels network0.safetensors --images photos --workers 0 --batch-size 4 target=0.9 --dry-run',
               f'prune_channels epoch_1.pth --model {_NET} --images photos --test photos --val photos --workers 0 '
               '--input-size 8 target=0.9'],
    'list.py': ['networks resnet'],
    'merging/base_models.py': [_MERGE],
    'merging/baselines.py': [_MERGE],
    'merging/convert.py': [f'{_NET} original net --out made'],
    'merging/curve.py': [f'{_MERGE} --stops none'],
    'merging/evaluate_external.py': [f'{_MERGE} work_dirs/half-a_digits/epoch_1.pth'],
    'merging/sample_grid.py': [f'--source {_NET} {_CHECKPOINT} --source {_NET} {_CHECKPOINT} --samples 2 --drawn 1'],
    'merging/search.py': [f'{_MERGE} --param alpha 0.1 --param beta 1 --stops none'],
    'model_converters/efficientnet_lite_to_timm.py': ['epoch_1.pth'],
    'model_converters/mixer_jax_to_timm.py': ['arrays.npz mixer_s32_224'],
    'model_converters/plain_to_classifier.py': [f'{_NET} epoch_1.pth'],
    'model_converters/squeezenet_ndf_to_torchvision.py': ['epoch_1.pth'],
    'model_converters/to_network_file.py': [
        f'epoch_1.pth made.safetensors --model {_NET}',
        'network0.safetensors made.safetensors --of network1.safetensors'],
    'pruning/prune.py': ['small/quickstart_prune_digits.py --sparsities 0.5'],
    'pruning/prune_channels.py': ['channels.py --targets 0.7'],
    'seam/compare.py': ['small/quickstart_module_digits.py'],
    'seam/evaluate_robustness.py': ['transfer.py'],
    'seam/finetune.py': ['transfer.py --stages standard'],
    'seam/module.py': [
        'pack small/quickstart_module_digits.py selection.pth made.safetensors', 'unpack module.safetensors made.pth',
        'compose small/quickstart_module_digits.py made.safetensors a=module.safetensors b=module.safetensors',
        *(f'{command} small/quickstart_module_digits.py module.safetensors --input-size 8 {more}' for command, more in (
            ('compact', '--onnx made.onnx made.safetensors'), ('cost', '--out made.json'),
            ('latency', '--passes 2 --engines torch')))],
    'seam/reengineer.py': ['small/quickstart_module_digits.py --targets 3'],
    'test.py': [f'{_NET} {_CHECKPOINT}'],
    'train.py': [f'{_NET} --work-dir work_dirs/resnet_digits --resume {_CHECKPOINT}'],
    'vanishing_feature/align.py': [f'{_PAIR} --samples 32'],
    'vanishing_feature/curve.py': ['small/quickstart_curve_digits.py --points 2'],
    'vanishing_feature/preserve_first.py': [
        'small/quickstart_preserve-first_digits.py --points 0', 'small/quickstart_preserve-first_digits.py --points 0 '
        '--matcher permute --out made.pth'],
}
#: Configs that tools take and nothing else here runs.
MORE = ('configs/quickstart/prune_digits.py', 'configs/quickstart/preserve-first_digits.py')
_OWN = {
    'channels.py': f"""
_base_ = ['{_NET}']
channels = dict(
    checkpoint='{_CHECKPOINT}', methods=dict(small=dict(saliency='magnitude')), targets=[0.7], engines=[],
    renormalizers=dict(reset=dict(type='reset', samples=32)))
""",
    'zoo.py': f"""
_base_ = ['{_DERY.split()[0]}']
test_data = dict(dataset=dict(type='Digits', split='test'), load=[], color_order='rgb')
""",
    'transfer.py': f"""
_base_ = ['configs/seam/_base_transfer.py', 'configs/_base_/datasets/digits.py']
pretrained = '{_CHECKPOINT}'
model = dict(backbone=dict(type='CifarResNet', depth=14), head=dict(num_classes=10, in_channels=64))
train_cfg = dict(max_epochs=1)
"""}


def furnish_well(workspace: Workspace, folder: Path) -> None:
    """Put what the command lines name into a folder."""
    furnish(workspace, folder)
    for path in DERIVED:
        shutil.copytree(workspace.result(path), folder / 'results' / workspace.result(path).name)
    shutil.copy(folder / 'results' / 'quickstart_module_digits' / 'selection.pth', folder)
    for half in ('0_1_2_3_4', '5_6_7_8_9'):
        (folder / 'original' / half).mkdir(parents=True)
        shutil.copy(folder / 'epoch_1.pth', folder / 'original' / half / 'net_v0.pth.tar')
    np.savez(folder / 'arrays.npz', a=np.zeros(2))
    for name, text in _OWN.items():
        (folder / name).write_text(text)


def with_holes(name: str, draw: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Yield the arguments of a tool, and the words of a command line with a hole for the argument.

    Each word is left out of a good command line in turn; options that it lacks are added.
    """
    parser = parser_of(name)
    taken = arguments_with(parser)
    options = {tuple(action.option_strings): action for action in taken if action.option_strings}
    for line in GOOD[name]:
        words = line.split()
        candidates = [[*words[:number], ''.join([*word.rpartition('=')[:2], HOLE]), *words[number + 1:]]
                      for number, word in enumerate(words)]
        candidates += [[*words, draw.choice(names), *[HOLE] * (action.nargs if isinstance(action.nargs, int) else 1)]
                       for names, action in options.items() if not set(names) & set(words)]
        for each in candidates:
            if (argument := _argument(parser, each)) in {action.dest for action in taken}:
                yield argument, each


def _argument(parser: argparse.ArgumentParser, words: list[str]) -> str | None:
    """Return the argument that takes the hole; None where none does."""
    parse = parser.parse_args if parser._subparsers else parser.parse_intermixed_args
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        return next((name for name, value in vars(parse(words)).items() if HOLE in str(value)), None)
    return None
