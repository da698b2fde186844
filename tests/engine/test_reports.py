"""What trainings logged becomes curves and sentences, whether the run was resumed, killed or a stage's own."""
import json

from mmreuse.engine.reports.curves import draw_curves, keep_logs, logs_of, read_curves
from mmreuse.engine.reports.training import conclude_curves


def log(folder, records, cut=''):
    path = folder / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(record) + '\n' for record in records) + cut)


def trained(step, loss):
    return dict(lr=0.1, loss=loss, time=1., step=step)


def test_losses_and_what_was_validated_are_told_apart(tmp_path):
    log(tmp_path / '1', [trained(38, 1.5), {'accuracy/top1': 60., 'time': 1., 'step': 1}, trained(76, float('nan')),
                         {'accuracy/top1': 80., 'step': 2}], cut='{"accuracy/top1": 9')
    log(tmp_path / '2', [trained(76, 0.5), {'accuracy/top1': 70., 'step': 2}])  # resumed from the first epoch
    curves = read_curves(logs_of(tmp_path))
    assert curves == {'train/loss': [(38, 1.5), (76, 0.5)], 'accuracy/top1': [(1, 60.), (2, 70.)]}
    drawn = [figure.axes[0].get_lines()[0].get_ydata().tolist() for figure in draw_curves(curves).values()]
    assert drawn == [[1.5, 0.5], [60., 70.]]


def test_a_stage_keeps_the_log_of_its_training(tmp_path):
    log(tmp_path / 'training' / 'a' / '1', [trained(1, 2.), trained(2, 1.)])
    keep_logs(tmp_path / 'training', tmp_path)
    assert read_curves(logs_of(tmp_path)) == {'train/loss': [(1, 2.), (2, 1.)]}
    keep_logs(tmp_path / 'none', tmp_path / 'elsewhere')
    assert logs_of(tmp_path / 'elsewhere') == []


def test_a_curve_is_summed_up_in_words_that_it_bears_out():
    risen = {'accuracy/top1': [(1, 60.), (2, 80.), (3, 75.)], 'train/loss': [(1, 2.), (2, 1.)]}
    assert conclude_curves(risen) == ('accuracy/top1 on validation data was best after 2 of 3: 80.0 %, and ended at '
                                      '75.0 %.')
    assert conclude_curves({'accuracy/top1': [(1, 60.), (2, 80.)]}).endswith('2 of 2: 80.0 %, which is where it ended.')
    assert conclude_curves({'train/loss': [(1, 2.), (2, 0.5)]}) == 'loss went from 2 to 0.5.'
    assert conclude_curves({}) == ''
