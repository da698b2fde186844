"""What the jobs of the quick start conclude follows from their rows."""
import runpy

from mmreuse.engine.quickstart import JOBS
from mmreuse.engine.quickstart.connectivity import conclude_line
from mmreuse.engine.quickstart.merging import conclude_merges
from mmreuse.engine.quickstart.reassembly import conclude_reassembly
from mmreuse.engine.reports.pipeline import conclude_stage


def test_the_tool_offers_the_jobs_there_are(repository):
    assert runpy.run_path(str(repository / 'tools/quickstart.py'))['JOBS'] == tuple(JOBS)


def merges(**joint):
    return [dict(network=name.replace('_', ' '), joint=value, macs=2. if name == 'ensemble' else 1.)
            for name, value in {'network_A_alone': 50., 'plain_average': 11., 'ensemble': 92., **joint}.items()]


def test_the_best_merge_is_judged_by_what_costs_as_much():
    compared, judged = conclude_merges(merges(permute=40., zip=80.))
    assert compared == ("'zip' reaches 80.0 %: 69.0 points above the plain average, 30.0 points above network A alone "
                        'and 12.0 points below the ensemble, at 0.5 times the MACs of the ensemble.')
    assert 'The method pays off here' in judged
    assert 'does not pay off here: network A alone does' in conclude_merges(merges(permute=40., zip=45.))[1]


def test_the_best_midpoint_stands_beside_the_plain_one_and_the_worse_end():
    rows = [{'matcher': matcher, 'renormalizer': name, 'alpha': alpha, 'accuracy/top1': value}
            for matcher, name, alpha, value in (
                ('direct', 'none', 0, 98.), ('direct', 'none', .5, 10.), ('direct', 'none', 1, 97.),
                ('permute', 'none', .5, 11.), ('permute', 'repair', .5, 93.))]
    assert conclude_line(rows)[0] == ('The midpoint by permute and repair reaches 93.0 %: 83.0 points above the '
                                      'plain midpoint and 4.0 points below the worse end.')


def test_an_assembly_is_judged_by_what_else_the_budget_buys():
    rows = [{'network': name, 'accuracy (%)': value} for name, value in (
        ('resnet', 99.), ('reassembled', 94.), ('same, from scratch', 80.), ('resnet, pruned to the budget', 98.))]
    said = ' '.join(conclude_reassembly(rows))
    assert "'resnet, pruned to the budget' does as well or better at no higher cost; it is ahead of 'same, " in said
    assert '99' not in said


def test_a_stage_that_random_weights_equal_owes_them_nothing():
    row = dict(network='pruned', accuracy=97., before=99., origin=99., ensemble=None, equal_cost=80., random=96.5,
               macs=10, macs_of_origin=20)
    said = ' '.join(conclude_stage(row, 300))
    assert 'at 0.5 times the MACs of the best origin' in said and 'contribute nothing' in said
    said = ' '.join(conclude_stage(row | dict(random=60.), 300))
    assert 'contribute nothing' not in said and 'pays off here' in said
