"""Every example runs on the digits and shows what it says."""
import importlib
import sys

import pytest

from mmreuse.utils.files.io import read_json

EXAMPLES = ('vf_in_linear_networks', 'effect_of_residual_connection', 'effect_of_reset',
            'vf_in_merged_and_pruned_models', 'improve_normalization_from_vf', 'renormalize_pruned_model')


@pytest.fixture(scope='module')
def run(repository, tmp_path_factory):
    """Run an example in this process; nets are shared between them as on a user's disk."""
    out = tmp_path_factory.mktemp('examples')
    sys.path.insert(0, str(repository / 'examples'))

    def main(name):
        rows = importlib.import_module(name).main(['--small', '--out', str(out)])
        written = read_json(out / f'{name}.json')
        assert written['small'] and written['rows'] == rows
        assert (out / f'{name}.png').stat().st_size > 5000
        return rows

    yield main
    sys.path.remove(str(repository / 'examples'))


def column(rows, key, name):
    return {row[key]: row[name] for row in rows}


def test_all_are_tested(repository):
    assert {path.stem for path in (repository / 'examples').glob('*.py')} == {*EXAMPLES, 'common'}


def test_linear_networks(run):
    rows = run('vf_in_linear_networks')
    accuracy, first, last, offset = (column(rows, 'net', name) for name in ('accuracy', 'g_first', 'g_last', 'h_last'))
    ends = ['net 1', 'net 2']
    # g of the ends grows from layer to layer, that of the midpoint vanishes; the offset does not.
    assert all(last[end] > first[end] for end in ends) and last['direct'] < .1 * first['direct']
    assert last['direct'] < .05 * min(last[end] for end in ends)
    assert offset['direct'] > .2 * min(offset[end] for end in ends)
    assert accuracy['direct'] < 30 < accuracy['activation matching']
    assert all(accuracy[end] > 80 for end in ends)


def test_residual_connections(run):
    rows = run('effect_of_residual_connection')
    midpoint, left = ({(row['nets'], row['matcher']): row[name] for row in rows} for name in ('midpoint', 'g_left'))
    assert midpoint['residual', 'direct'] > midpoint['plain', 'direct'] + 10
    assert left['residual', 'direct'] > 2 * left['plain', 'direct']
    assert midpoint['plain', 'weight matching'] > midpoint['plain', 'direct'] + 10
    assert midpoint['residual', 'weight matching'] == max(midpoint.values())


def test_reset(run):
    rows = run('effect_of_reset')
    accuracy, left = (column(rows, 'net', name) for name in ('accuracy', 'g_left'))
    assert accuracy['matched, reset'] > accuracy['matched'] and left['matched, reset'] > 5 * left['matched']


def test_merged_and_pruned(run):
    rows = run('vf_in_merged_and_pruned_models')
    accuracy, left = (column(rows, 'net', name) for name in ('accuracy', 'g_left'))
    assert all(left[f'{family}, merged'] < .2 for family in ('VGG', 'VGG-BN', 'ResNet'))
    assert accuracy['VGG-BN, pruned, reset'] > accuracy['VGG-BN, pruned'] + 10
    assert left['VGG-BN, pruned, reset'] > 3 * left['VGG-BN, pruned']


def test_better_normalization(run):
    rows = run('improve_normalization_from_vf')
    midpoint = {(row['matcher'], row['renormalizer']): row['midpoint'] for row in rows}
    assert len(midpoint) == 10
    assert midpoint['AM', 'REPAIR'] > midpoint['AM', 'none'] > midpoint['WM', 'none']


def test_pruned(run):
    rows = run('renormalize_pruned_model')
    found = {(row['net'], row['sparsity'], row['renormalizer']): row['accuracy'] for row in rows}
    assert found['VGG-BN', .8, 'reset'] > found['VGG-BN', .8, 'none']
    assert found['VGG-LN', .8, 'repair'] > found['VGG-LN', .8, 'none']
