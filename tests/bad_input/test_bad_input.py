"""A few cases of bad input of each kind, and a few hostile files at everything that reads files.

``fuzz.py`` and ``hostile_walk.py`` in this folder run as many as are wanted.
"""
import random
from pathlib import Path

import pytest
import torch
from bad_command_lines import arguments_with, parser_of, tools
from bad_configs import bad_text, other_config
from bad_data import bad_file
from bad_numbers import bad_numbers
from cases import run_case
from fuzz import KINDS
from good_command_lines import GOOD, with_holes
from hostile_walk import readers, walk
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn
from workspace import Workspace, write_config

from mmreuse.engine.failures import paragraph, runs_now
from mmreuse.engine.jobs.job import check_weights, find_job
from mmreuse.errors import ArtefactError, DataError
from mmreuse.registry import MODELS
from mmreuse.utils.files.io import load_checkpoint


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder where nothing has run yet."""
    return Workspace(tmp_path_factory.mktemp('bad input'))


@pytest.mark.parametrize('make', [other_config, bad_text, bad_file, bad_numbers])
def test_bad_input_is_refused_in_one_paragraph_or_does_no_harm(make, workspace):
    first = random.Random(make.__name__).randrange(1000)
    for number in range(first, first + 3):
        verdict = run_case(make.__name__, make, 7, number, workspace)
        assert not verdict.faults, f'{verdict.what}: {verdict.faults}'


def test_what_is_hostile_harms_nothing(tmp_path):
    assert {'mmreuse.networks.network_file.load', 'mmreuse.utils.files.io.load_checkpoint',
            'mmreuse.utils.configs.files.read_config', 'mmreuse.deployment.onnx_notes.read_notes'} <= set(readers())
    found = walk(None, tmp_path, 0., read=0.01)
    assert found['calls'] > 12
    assert not found['faults']


def test_hostile_files_are_handed_in_as_every_argument_of_every_tool():
    assert set(GOOD) == set(tools())
    for name in tools():
        arguments = {action.dest for action in arguments_with(parser_of(name))}
        assert arguments == {argument for argument, _ in with_holes(name, random.Random(0))}, name


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_more_cases_of_each_kind(kind, tmp_path_factory, request):
    if not hasattr(request.config, 'trained_workspace'):
        request.config.trained_workspace = Workspace(tmp_path_factory.mktemp('trained'))
        request.config.trained_workspace.prepare()
    for number in range(10):
        verdict = run_case(kind, KINDS[kind], 11, number, request.config.trained_workspace)
        assert not verdict.faults, f'{verdict.what}: {verdict.faults}'


@pytest.mark.slow
def test_all_hostile_files_harm_no_reader(tmp_path):
    assert not walk(None, tmp_path, 0.)['faults']


def test_no_job_starts_with_weights_that_are_not_finite():
    network = nn.Linear(2, 2)
    network.weight.data[0, 0] = float('nan')
    with pytest.raises(DataError, match="'compact' cannot start: 'weight' of network 0 is not finite"):
        check_weights(find_job(dict(type='compact')), [network])


def test_a_changed_byte_of_a_checkpoint_is_found(tmp_path):
    file = tmp_path / 'net.pth'
    torch.save(dict(a=torch.full((64,), 1.)), file)
    data = bytearray(file.read_bytes())
    data[data.index(torch.ones(4).numpy().tobytes()) + 9] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match='net.pth: is damaged .checksum'):
        load_checkpoint(file)


class TestFailures:
    """What goes wrong inside a component is told with its place in the config."""

    @pytest.fixture(autouse=True)
    def _none(self):
        yield
        runs_now(None)

    @staticmethod
    def run(folder: Path, **values: object) -> None:
        file = folder / 'mine.py'
        write_config(file, dict(values, model=dict(
            type='mmpretrain.ImageClassifier', head=dict(type='mmpretrain.LinearClsHead', num_classes=-1))))
        runs_now(Config.fromfile(file))

    @staticmethod
    def build() -> Exception:
        init_default_scope('mmreuse')
        with pytest.raises(ValueError) as found:
            MODELS.build(dict(type='mmpretrain.LinearClsHead', num_classes=-1, in_channels=3))
        return found.value

    def test_it_names_file_key_and_component(self, tmp_path):
        self.run(tmp_path)
        text = paragraph(self.build())
        place = f'{tmp_path / "mine.py"}: model.head'
        assert text.startswith(f'ConfigError: {place}: mmpretrain.LinearClsHead fails with ValueError: ')
        assert '\n' not in text and 'log_level=DEBUG' in text

    def test_an_error_of_no_component_keeps_its_traceback(self, tmp_path):
        self.run(tmp_path)
        assert paragraph(ZeroDivisionError('division by zero')) is None

    def test_the_traceback_can_be_asked_for(self, tmp_path):
        self.run(tmp_path, log_level='DEBUG')
        assert paragraph(self.build()) is None
