"""The migration page: every command and every row of its tables runs, on miniatures of the data that configs name."""
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.datasets import CIFAR10, CIFAR100

sys.path.insert(0, str(Path(__file__).parent / 'reassembly'))
from similarity_helpers import Block, Block_Assign, write_published, write_published_partition  # noqa: E402
from small_data import shorten_digits, write_cifar, write_folders, write_scenes, write_weights  # noqa: E402

from mmreuse.__main__ import main  # noqa: E402
from mmreuse.reassembly.partition.files import load_partition  # noqa: E402
from mmreuse.reassembly.similarity.similarity_matrix import load_similarity  # noqa: E402
from mmreuse.reassembly.zoo.structures import Block as OurBlock  # noqa: E402
from mmreuse.utils.files.io import load_checkpoint  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/en/how_to/migrate.md'
PROGRAMS = ('DeRy', 'SeaM', 'ZipIt!', 'Vanishing feature', 'WoodFisher')
_PART = re.compile(r'^(##|###) (.*?)\n(.*?)(?=^#{2,3} |\Z)', re.MULTILINE | re.DOTALL)
_BASH = re.compile(r'```bash\n(.*?)```', re.DOTALL)
#: By config, options that fit it to few images, and keep a run small.
_NO_WORKERS = 'train_dataloader.num_workers=0 val_dataloader.num_workers=0 test_dataloader.num_workers=0'
_TRANSFER = f'{_NO_WORKERS} pretrained={{root}}/resnet18.pth robustness.teacher={{root}}/resnet18.pth ' \
    'model.backbone.stem_channels=8 model.backbone.base_channels=8 model.head.in_channels=64'
SMALL = {
    **{f'configs/quickstart/{name}_digits.py': 'train_dataloader.batch_size=128'
       for name in ('resnet', 'wide-resnet', 'convnext', 'vit', 'half-a', 'half-b')},
    'work_dirs/dery_digits/reassembly/rank1.py': 'train_cfg.max_epochs=2',
    'configs/quickstart/merge_digits.py':
        'default_hooks.merge.samples=200 default_hooks.renormalize.renormalizers.0.samples=200',
    'configs/quickstart/pair_digits.py': 'train_dataloader.batch_size=128 custom_hooks.2.samples=100',
    'configs/quickstart/curve_digits.py': 'connectivity.points=3 connectivity.samples=200 '
        'connectivity.renormalizers.reset.samples=200 connectivity.renormalizers.repair.samples=200',
    'configs/quickstart/preserve-first_digits.py': 'preserve_first.samples=200 preserve_first.points=[0,3]',
    'configs/quickstart/prune_digits.py': 'pruning.renormalizers.reset.samples=200 '
        '"pruning.methods.diagonal Fisher, layer.fisher.samples=200" '
        '"pruning.methods.WoodFisher, global.fisher.samples=200"',
    'configs/quickstart/dery_digits.py': 'reassembly.num_candidates=8 reassembly.finalists=2 reassembly.top=1',
    'configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py': '{hashes}',
    'configs/seam/resnet20_cifar100_superclass.py':
        f'{_NO_WORKERS} train_cfg.max_epochs=2 custom_hooks.1.reference=0.2',
    'configs/seam/resnet20_scratch_cifar100_superclass.py': f'{_NO_WORKERS} train_cfg.max_epochs=2',
    'configs/seam/resnet18_mit67_transfer.py': f'{_TRANSFER} train_cfg.max_epochs=2 '
        'train_dataloader.dataset.dataset.pipeline.1.scale=32 val_dataloader.dataset.dataset.pipeline.1.scale=32 '
        'val_dataloader.dataset.dataset.pipeline.2.crop_size=32 test_dataloader.dataset.pipeline.1.scale=32 '
        'test_dataloader.dataset.pipeline.2.crop_size=32',
    'configs/seam/resnet18_cifar10_transfer.py': f'{_TRANSFER} train_cfg.max_epochs=2 '
        'train_dataloader.dataset.dataset.pipeline.0.scale=32 val_dataloader.dataset.dataset.pipeline.0.scale=(32,32) '
        'test_dataloader.dataset.pipeline.0.scale=(32,32) '
        'variants.head.train_cfg.max_epochs=2 variants.masks.train_cfg.max_epochs=2 '
        'variants.modular.train_cfg.max_epochs=2',
    'configs/woodfisher/gradual_resnet20_b128-4e_cifar10-jpeg.py':
        f'{_NO_WORKERS} train_dataloader.batch_size=16 train_cfg.max_epochs=2 param_scheduler.end=2 '
        'custom_hooks.0.end=8 custom_hooks.0.interval=4 custom_hooks.0.fisher.samples=32',
}
#: By config, and the end of a key, the value that stands for that of a row.
SHORT = {
    'configs/seam/': {'max_epochs': '2'},
    'configs/woodfisher/': {'max_epochs': '2', 'param_scheduler.end': '2', 'custom_hooks.0.end': '8',
                            'custom_hooks.0.interval': '4'},
    'configs/quickstart/': {'reset.samples': '200', 'merge.samples': '200'},
}
#: Rows of these start from what the command leaves.
FROM_ITSELF = ('configs/quickstart/pair_digits.py',)
#: Tools that pass over what is done in their folder.
PASS_OVER = ('tools/seam/finetune.py', 'tools/seam/reengineer.py')
#: What a program's commands take from those of another.
BEFORE = {program: ('python', 'tools/train.py', 'configs/quickstart/resnet_digits.py')
          for program in ('SeaM', 'WoodFisher')}
#: Sections that take longer.
SLOW = ('SinGAN', 'Matching functions', '`standard_finetune_cifar10.py` of the supplement',
        '`modular_finetune_cifar10.py` of the supplement', '`eval_robustness_cifar10.py` of the supplement')


def write_merged(path: Path) -> None:
    """Write weights as Git Re-Basin leaves them."""
    state = load_checkpoint('work_dirs/half-a_digits/epoch_12.pth')['state_dict']
    plain = {name.removeprefix('backbone.').replace('head.fc.', 'linear.'): tensor.numpy()
             for name, tensor in state.items() if name.startswith(('backbone.', 'head.fc.'))}
    np.savez(path, **{('batch_stats.' if 'running' in name else 'params.') + name: array
                      for name, array in plain.items()})


def write_similarity(path: Path) -> None:
    """Write our similarity as the published files."""
    write_published(path, load_similarity('work_dirs/dery_digits/similarity/similarity.safetensors'))


def write_partition(path: Path) -> None:
    """Write our partition as the published file."""
    def published(block: OurBlock) -> Block:
        return Block(block.model, block.stage, block.first, block.last)

    found = load_partition('work_dirs/dery_digits/partition/partition.json')
    groups = [[published(block) for blocks in found.blocks.values() for block in blocks if block.set == number]
              for number in range(len(found.anchors))]
    write_published_partition(path, Block_Assign(groups, [published(anchor) for anchor in found.anchors]))


#: Files and folders of other programs that rows name.
FOREIGN = {'merged.npz': write_merged, 'sim_cka': write_similarity, 'assignment_hybrid_3.pkl': write_partition}


@dataclass(frozen=True)
class Section:
    """A command of an original program: its name, our commands, and rows of theirs, ours and a remark."""
    program: str
    name: str
    commands: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[str, str, str], ...]

    @property
    def options(self) -> list[list[str]]:
        """Return the options that rows add to the last command."""
        return [shlex.split(ours.strip('`')) for _, ours, _ in self.rows if ours != 'none']

    def runs(self, small: Mapping[str, str]) -> Iterator[list[str]]:
        """Yield every command, the last one with the options of rows, as often as it takes to give each its value.

        Args:
            small: By config, options that keep a run small; rows come after them, shortened.
        """
        if not self.commands:
            return
        *first, command = [[*command, *_small(command, small)] for command in self.commands]
        yield from first
        if not self.options or command[2] in FROM_ITSELF:
            yield command
        waiting = [[_shortened(word, command[2]) for word in each] for each in self.options]
        while waiting:
            now, later, names = [], [], set()
            for option in waiting:
                if names & _names(option):
                    later.append(option)
                else:
                    now += option
                    names |= _names(option)
            yield [*command, *now]
            waiting = later


def _small(command: Sequence[str], small: Mapping[str, str]) -> list[str]:
    options = [option for config in command for option in shlex.split(small.get(config, ''))]
    return ['--cfg-options', *options] if options else []


def _shortened(word: str, config: str) -> str:
    key = word.partition('=')[0]
    return next((f'{key}={value}' for folder, values in SHORT.items() if config.startswith(folder)
                 for end, value in values.items() if key.endswith(end)), word)


def _names(option: list[str]) -> set[str]:
    """Return what may be given once: flags, and keys of configs."""
    return {word.partition('=')[0] for word in option
            if (word.startswith('--') and word not in ('--cfg-options', '--param')) or '=' in word}


def sections() -> list[Section]:
    """Return what the page holds, in order."""
    found, program = [], ''
    for level, name, body in _PART.findall(PAGE.read_text(encoding='utf-8')):
        if level == '##':
            program = name.split(',')[0]
            continue
        block = _BASH.search(body)
        lines = block[1].strip().splitlines() if block else ()
        rows = [tuple(cell.strip() for cell in line.strip('|').split(' | ')) for line in body.splitlines()
                if line.startswith('|') and not line.startswith(('|---', '| theirs'))]
        found.append(Section(program, name, tuple(tuple(shlex.split(line)) for line in lines),
                             tuple((row[0], row[1], row[2] if len(row) > 2 else '') for row in rows)))
    return found


SECTIONS = sections()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stand in an empty folder, with miniatures as the data root; return :data:`SMALL` for them."""
    root = tmp_path / 'data'
    (root / 'weights').mkdir(parents=True)
    monkeypatch.setenv('MMREUSE_DATA_ROOT', str(root))
    write_cifar(root, CIFAR10, (5, 1), monkeypatch)
    write_cifar(root, CIFAR100, (20, 2), monkeypatch)
    write_scenes(root, 67, (3, 1))
    write_folders(root, 10, (12, 2))
    hashes = write_weights(root)
    shorten_digits(monkeypatch, train=260, val=60, test=260)
    (tmp_path / 'run').mkdir()
    monkeypatch.chdir(tmp_path / 'run')
    return {config: options.format(root=root, hashes=' '.join(hashes)) for config, options in SMALL.items()}


def start(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a command in this process."""
    monkeypatch.setattr(sys, 'argv', ['mmreuse'])
    if words[0] == 'mmreuse':
        main(words[1:])
        return
    tool = ROOT / words[1]
    monkeypatch.setattr(sys, 'argv', [str(tool), *words[2:]])
    monkeypatch.syspath_prepend(tool.parent)  # examples import what lies beside them
    exec(compile(tool.read_text(encoding='utf-8'), str(tool), 'exec'), {'__name__': '__main__', '__file__': str(tool)})


def run_section(section: Section, small: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all that a section says."""
    for number, words in enumerate(section.runs(small)):
        for name, write in FOREIGN.items():
            if any(name in word for word in words):
                write(Path(name))
        if number and words[1] in PASS_OVER:
            words = [*words, '--work-dir', f'work_dirs/rows{number}_{Path(words[2]).stem}']
        start(words, monkeypatch)


def test_the_page_has_tables_for_all_five() -> None:
    assert tuple(dict.fromkeys(section.program for section in SECTIONS)) == PROGRAMS
    rows = [row for section in SECTIONS for row in section.rows]
    assert len(rows) > 250 and {section.name for section in SECTIONS} >= set(SLOW)
    for theirs, ours, why in rows:
        assert ours == 'none' and why or ours.startswith('`') and ours.endswith('`'), theirs


def test_rows_that_exclude_each_other_run_one_after_another() -> None:
    section = Section('', '', (('python', 'a.py'),), (('', '`--k 1`', ''), ('', '`--cfg-options a=1 b=2`', ''),
                                                      ('', '`--k 2`', ''), ('', '`--cfg-options a=2`', '')))
    assert [' '.join(words) for words in section.runs({'a.py': 'c=1'})] == [
        'python a.py --cfg-options c=1 --k 1 --cfg-options a=1 b=2',
        'python a.py --cfg-options c=1 --k 2 --cfg-options a=2']


def run_program(program: str, without: Sequence[str], small: Mapping[str, str],
                monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the sections of a program in order."""
    if program in BEFORE:
        start([*BEFORE[program], *_small(BEFORE[program], small)], monkeypatch)
    for section in SECTIONS:
        if section.program == program and section.name not in without:
            run_section(section, small, monkeypatch)


@pytest.mark.parametrize('program', PROGRAMS)
def test_every_row_runs(program: str, small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_program(program, SLOW, small, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('program', sorted({section.program for section in SECTIONS if section.name in SLOW}))
def test_rows_that_take_longer_run_too(program: str, small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_program(program, (), small, monkeypatch)
