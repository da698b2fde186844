"""The report in headless Chromium: nothing overflows, all text can be read, nothing is broken, tables sort."""
import itertools

import pytest
import torch
from browser import SCHEMES, WIDTHS, browser, missing
from torch import nn

from mmreuse.graph import trace
from mmreuse.utils.files.io import read_json
from mmreuse.visualization import Report, draw_connectivity, draw_learning_curves, draw_pipeline, name_best

pytestmark = pytest.mark.skipif(bool(missing()), reason=f'{" and ".join(missing())} not installed '
                                '(apt-get install chromium chromium-driver)')
WRONG = """<!doctype html><html><body style="background: #fff"><p style="width: 3000px">too wide</p>
<p style="color: #bbb">too pale</p><img src="gone.png"><a href="#nowhere">dead</a>
<table style="width: 5px"><tr><td style="overflow-wrap: anywhere">crushed words</td></tr></table>
<svg width="300" height="20" viewBox="0 0 3000 200"><text y="90" font-size="40">tiny</text></svg></body></html>"""


@pytest.fixture(scope='module')
def session(tmp_path_factory):
    with browser(tmp_path_factory.mktemp('profile')) as found:
        yield found


@pytest.fixture(scope='module')
def page(tmp_path_factory, request):
    """A report of rows that small runs have left."""
    folder = tmp_path_factory.mktemp('report')
    here = request.path.parent
    rows = read_json(here.parents[1] / 'configs/pipelines/shrink_cifar10-jpeg.json')['rows']
    report = Report('A report & its <parts>', 'Rows of runs on the digits: anchor, naswot.')
    report.section('Pipeline', 'Networks were merged and pruned.', name_best(rows, 'network', 'accuracy'))
    report.table(rows, best='accuracy')
    report.figures({'Accuracy against MACs.': draw_pipeline(rows),
                    'Curves.': draw_learning_curves({'train': [(1, 50.), (2, 60.)], 'val': [(1, 40.), (2, 55.)]})})
    report.section('Line', 'Two networks, and what lies between.', 'A conclusion.')
    report.figures({'Connectivity.': draw_connectivity(read_json(here / 'rows.json')['connectivity'])})
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(1), nn.Linear(64, 10))
    report.spaces(trace(network, torch.zeros(1, 3, 8, 8)).spaces, 'Feature spaces of a small network.')
    (folder / 'table.csv').write_text('a')
    report.files({'table': folder / 'table.csv'}, folder)
    report.details('Config', 'a = 1\n' + 'long = ' + 'x' * 300)
    report.write(folder / 'report.html')
    return folder / 'report.html'


@pytest.mark.parametrize('width, scheme', itertools.product(WIDTHS, SCHEMES))
def test_report_can_be_read(session, page, width, scheme):
    session.open(page, width, scheme)
    found = session.audit()
    links = found.pop('links')
    assert found.pop('texts') > 100
    assert found == dict(overflow=[], contrast=[], small=[], crushed=[], broken=[])
    assert links == ['table.csv'] and all((page.parent / link).is_file() for link in links)
    paper = session.run('return getComputedStyle(document.body).backgroundColor')
    assert (paper == 'rgb(244, 245, 247)') == (scheme == 'light')


def test_tables_sort_by_a_click(session, page):
    session.open(page, 1400, 'light')
    click = """const head = [...document.querySelectorAll('th')].find(each => each.textContent === 'KEY')
        head.firstChild.click()
        return [...head.closest('table').tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent)"""
    falling = session.run(click.replace('KEY', 'accuracy'))
    rising = session.run(click.replace('KEY', 'accuracy'))
    names = session.run(click.replace('KEY', 'network'))
    assert list(map(float, falling)) == sorted(map(float, falling), reverse=True) and rising == falling[::-1]
    assert names == sorted(names, reverse=True)
    best = session.run('return [...document.querySelectorAll("tr.best")].map(row => row.cells[0].textContent)')
    assert best == ['cifar10_resnet56']


def test_what_is_wrong_is_found(session, tmp_path):
    (tmp_path / 'wrong.html').write_text(WRONG)
    session.open(tmp_path / 'wrong.html', 390, 'light')
    found = session.audit()
    assert any('page' in each for each in found['overflow']) and any('too wide' in each for each in found['overflow'])
    assert len(found['contrast']) == 1 and 'too pale' in found['contrast'][0]
    assert len(found['small']) == 1 and 'tiny' in found['small'][0]
    assert len(found['crushed']) == 1 and 'crushed words' in found['crushed'][0]
    assert any('gone.png' in each for each in found['broken']) and '#nowhere' in found['broken']
