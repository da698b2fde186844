"""Results of runs, found by the config of the run."""
import pytest

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.utils.files.results import find_result, result_of, with_results
from mmreuse.utils.files.safe_loading import checkpoint_path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A config whose folder depends on a seed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'net.py').write_text("seed_of_run = 0\nwork_dir = 'work_dirs/net/${seed_of_run}'\n")
    return tmp_path


def leave(folder, *names, last=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text('')
    if last:
        (folder / 'last_checkpoint').write_text(str(folder / last))


def test_a_run_that_has_left_nothing_says_what_makes_it(here):
    with pytest.raises(ArtefactError, match=r'net\.py: its run has left no network in work_dirs/net/0\. Run it first '
                                            r'\(python tools/train\.py net\.py\)'):
        find_result('result://net.py')
    with pytest.raises(ConfigError, match='names no config'):
        find_result('result://')
    with pytest.raises(ConfigError, match='no such file'):
        find_result('result://absent.py')


def test_the_best_or_last_checkpoint_of_the_right_run(here):
    leave(here / 'work_dirs/net/0', 'epoch_1.pth', 'epoch_2.pth', last='epoch_2.pth')
    leave(here / 'work_dirs/net/3', 'epoch_1.pth', 'best_accuracy_epoch_1.pth', last='epoch_1.pth')
    assert find_result('result://net.py').name == 'epoch_2.pth'
    found = find_result('result://net.py?seed_of_run=3')
    assert str(found) == 'work_dirs/net/3/best_accuracy_epoch_1.pth'
    assert result_of('net.py', dict(seed_of_run=3)) == found
    assert checkpoint_path('result://net.py?seed_of_run=3') == found


def test_a_folder_that_was_moved_has_the_same_result(here):
    leave(here / 'elsewhere', 'epoch_1.pth', 'epoch_2.pth', last='epoch_1.pth')
    (here / 'work_dirs/net').mkdir(parents=True)
    (here / 'elsewhere').rename(here / 'work_dirs/net/0')
    assert str(find_result('result://net.py')) == 'work_dirs/net/0/epoch_1.pth'
    (here / 'work_dirs/net/0/epoch_1.pth').unlink()
    with pytest.raises(ArtefactError, match='has left no network'):
        find_result('result://net.py')


def test_one_of_several_nets(here):
    leave(here / 'work_dirs/net/0', 'net1_epoch_9.pth', 'net1_epoch_10.pth', 'net2_epoch_0.pth')
    assert find_result('result://net.py#net1').name == 'net1_epoch_10.pth'
    assert result_of('net.py', net='net2').name == 'net2_epoch_0.pth'
    with pytest.raises(ArtefactError):
        find_result('result://net.py#net3')


def test_addresses_anywhere_in_a_config_but_in_initial_weights(here):
    leave(here / 'work_dirs/net/0', 'epoch_2.pth', last='epoch_2.pth')
    value = with_results(dict(a=['result://net.py', 'other'], b=dict(init_cfg=dict(checkpoint='result://absent.py'))))
    assert value['a'][0].endswith('epoch_2.pth') and value['a'][1] == 'other'
    assert value['b']['init_cfg']['checkpoint'] == 'result://absent.py'
