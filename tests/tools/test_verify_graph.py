"""The tool that proves spaces over libraries: one record a model, whatever happens to it."""
import argparse
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('timm')
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools' / 'analysis_tools'))
import model_libraries  # noqa: E402
import print_spaces  # noqa: E402
import verify_graph  # noqa: E402

from mmreuse.command_line import run_tool  # noqa: E402
from mmreuse.errors import ConfigError  # noqa: E402
from mmreuse.graph import trace  # noqa: E402


def test_a_micro_model_is_verified_in_a_process_of_its_own():
    record = verify_graph.guarded('timm', 'test_resnet', None, memory=4e9, timeout=120)
    assert record['traced'] and record['verified'] and record['spaces'] == 11
    assert 'verified, error' in verify_graph.line_of(record)


def test_running_out_of_time_or_of_names_is_one_line():
    late = verify_graph.guarded('timm', 'test_resnet', None, memory=4e9, timeout=0.01)
    unknown = verify_graph.examine('timm', 'resnet_of_nobody', None)
    assert 'took longer' in late['reason'] and 'no model' in unknown['reason']
    assert all('\n' not in verify_graph.line_of(record) for record in (late, unknown))


def test_smallest_of_a_family_is_by_parameters():
    families = model_libraries.list_models('torchvision', 'squeezenet*')
    assert families == {'squeezenet1_0': 'squeezenet', 'squeezenet1_1': 'squeezenet'}
    assert model_libraries.smallest_of_each_family('torchvision', families) == ['squeezenet1_1']


def test_spaces_and_cut_points_are_printed(capsys):
    model = model_libraries.build_model('timm', 'test_resnet')
    print_spaces.print_graph(trace(model, torch.zeros(1, 3, 64, 64)), cuts=True)
    text = capsys.readouterr().out
    assert 'written by layer1.0.conv1.weight axis 0' in text
    assert '  layer2 (' in text and '11 feature spaces' in text


def test_a_config_without_a_model_is_an_error(tmp_path):
    path = tmp_path / 'empty.py'
    path.write_text('work_dir = "x"\n')
    with pytest.raises(ConfigError, match='has no `model`'):
        print_spaces.model_of_config(str(path))
    with pytest.raises(SystemExit, match='there is no such file'):
        run_tool(print_spaces.run, argparse.Namespace(model=str(tmp_path / 'none.py')))


@pytest.mark.slow
@pytest.mark.parametrize('library, pattern', [('timm', 'test_*'), ('torchvision', 'mobilenet*'),
                                              ('torchvision', 'shufflenet*'), ('torchvision', 'swin_t')])
def test_published_models_are_verified(library, pattern):
    names = model_libraries.list_models(library, pattern)
    records = [verify_graph.guarded(library, name, None, memory=6e9, timeout=300) for name in names]
    assert records and [record['model'] for record in records if not record['verified']] == []
