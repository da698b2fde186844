"""Figures show what they are given; the report is one well-formed file."""
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

from mmreuse.graph import trace
from mmreuse.reassembly.zoo.structures import Adapter, Block, Candidate, Genotype, Partition
from mmreuse.visualization import (
    Report,
    compare,
    draw_learning_curves,
    draw_pareto,
    draw_partition,
    draw_similarity,
    name_best,
    verdict,
)
from mmreuse.visualization.panels import panels
from mmreuse.visualization.report.figures import inline_svg
from mmreuse.visualization.report.spaces import draw_spaces


def partition() -> Partition:
    blocks = {key: (Block(key, 0, 1, 0, 1), Block(key, 2, 4, 1, 0)) for key in ('a', 'b')}
    names = {key: tuple(f'layer.{index}' for index in range(5)) for key in blocks}
    return Partition(2, 0.3, 'nodes', 'cka', 3.0, blocks, (blocks['a'][1], blocks['b'][0]), names)


def candidates() -> list[Candidate]:
    blocks = partition().blocks
    genotype = Genotype((blocks['a'][0], blocks['b'][1]), (Adapter('cnn2cnn', 4, 8),), 16)
    return [Candidate(genotype, 1000 * (i + 1), 5000 - i, {'naswot': float(i)}) for i in range(3)]


def test_partition_has_one_bar_a_block():
    axes = draw_partition(partition()).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2, 3, 2, 3]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, True, True, False]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['a', 'b']


def test_similarity_shows_the_matrix():
    values = np.random.default_rng(0).random((5, 5))
    axes = draw_similarity(values, {'a': 2, 'b': 3}).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert [label.get_text() for label in axes.get_xticklabels()] == ['a', 'b']


def test_pareto_marks_the_front():
    axes = draw_pareto(candidates(), candidates()[:1], 'naswot').axes[0]
    every, front = (points.get_offsets().tolist() for points in axes.collections)
    assert every == [[0.001, 0.0], [0.002, 1.0], [0.003, 2.0]] and front == [[0.001, 0.0]]
    with pytest.raises(ValueError, match='no scored candidate'):
        draw_pareto([], [], 'naswot')


class Tags(HTMLParser):
    """Collects tags and the depth at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.opened, self.depth, self.words = [], 0, []

    def handle_starttag(self, tag, attrs):
        self.opened.append((tag, dict(attrs)))
        self.depth += tag not in ('meta', 'img', 'link')

    def handle_endtag(self, tag):
        self.depth -= 1

    def handle_data(self, data):
        self.words.append(data)


def test_report_is_one_file_that_fetches_nothing(tmp_path):
    report = Report('A & B')
    report.section('<one>', 'A net was trained.', 'It has 97.0 %.')
    report.table([dict(net='a', accuracy=97.25), dict(net='b', accuracy=None)], best='accuracy')
    report.figures({'curves': draw_learning_curves({'run': [(1, 50.0), (2, 60.0)]})})
    report.write(tmp_path / 'deep' / 'report.html')
    page = Tags()
    page.feed((tmp_path / 'deep' / 'report.html').read_text())
    assert page.depth == 0 and '<one>' in page.words and '97.25' in page.words and 'A & B' in page.words
    sources = [value for _, attributes in page.opened for name, value in attributes.items() if name in ('src', 'href')]
    assert sources and all(source.startswith(('#', 'data:')) for source in sources)
    assert sum(attributes.get('class') == 'best' for _, attributes in page.opened) == 1


def test_words_of_the_field_are_explained_where_they_are_met(tmp_path):
    report = Report('words')
    report.section('Anchors', 'Each anchor was scored by naswot; MMACs are no MACs <b>.')
    report.write(tmp_path / 'report.html')
    text = (tmp_path / 'report.html').read_text()
    for word in ('anchor', 'naswot', 'mmacs', 'macs'):
        assert f'href="#word-{word}"' in text and f'<dt id="word-{word}">' in text
    assert '&lt;b&gt;' in text and '<dt id="word-zip">' not in text


def test_figures_take_colours_from_the_page_and_are_stacked_on_narrow_screens():
    figure, _ = panels([1], 8, 3, 1, 2)
    figure.axes[0].plot([0, 1], [0, 1], color='C1')
    wide, narrow = inline_svg(figure, 'salt')
    width, height = (float(re.search(rf'{side}="([0-9.]+)pt"', narrow)[1]) for side in ('width', 'height'))
    assert width / 72 <= 3.7 + 1e-6 and height > width
    for svg in (wide, narrow):
        assert 'var(--c1)' in svg and 'currentColor' in svg and not re.search('#ff7f0e|#000000|<style', svg)
    marks = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (wide, narrow)]
    assert not marks[0] & marks[1]


def test_spaces_are_drawn_in_the_order_of_execution():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(1), nn.Linear(16, 10))
    spaces = trace(network, torch.zeros(1, 3, 2, 2)).spaces
    drawing = draw_spaces(spaces)
    assert drawing.count('<circle') == len(spaces) == 2 and drawing.count('<path') == 1
    assert drawing.index('>8</text>') < drawing.index('>4</text>')
    assert draw_spaces(dict.fromkeys(map(str, range(61)), next(iter(spaces.values())))) is None


def test_the_best_is_named_with_its_lead_or_its_equals():
    rows = [dict(name='a', accuracy=80.), dict(name='b', accuracy=84.25), dict(name='c', accuracy=None)]
    assert name_best(rows, 'name', 'accuracy') == 'b is best at 84.2 %, 4.2 above the next, a.'
    assert name_best(rows, 'name', 'accuracy', lowest=True) == 'a is best at 80.0 %, 4.2 below the next, b.'
    equal = [*rows, dict(name='d', accuracy=84.25)]
    assert name_best(equal, 'name', 'accuracy') == 'b and d are best at 84.2 %, 4.2 above the next, a.'
    assert name_best(rows[2:], 'name', 'accuracy') == 'Nothing was measured.'


def test_an_accuracy_is_compared_in_words_that_its_baselines_bear_out():
    others = dict(average=60., ensemble=84.5, none=None, same=84.02)
    assert compare('zip', 84., others, costs={'the MACs of the ensemble': 0.5}) == (
        'zip reaches 84.0 %: 24.0 points above average, 0.5 points below ensemble and level with same, '
        'at 0.5 times the MACs of the ensemble.')
    assert '0.5 points below ensemble (within the error of 300 test images)' in compare('zip', 84., others, samples=300)
    assert 'error' not in compare('zip', 84., dict(average=60.), samples=300)


@pytest.mark.parametrize('value, baselines, samples, words', [
    (84., dict(random=60.), 300, 'pays off here: it is ahead of random'),
    (84., dict(random=83.), 300, 'Inconclusive: ahead of every baseline, but of random only within the error of 300 '
     'test images'),
    (84., dict(random=83.), None, 'pays off here'),
    (84., dict(random=84.), None, 'does not pay off here: random does as well or better'),
    (84., dict(random=60., control=90.), 300, 'control does as well or better at no higher cost; it is ahead of'),
    (84., dict(random=None), 300, 'no baseline'),
])
def test_a_verdict_follows_from_the_baselines(value, baselines, samples, words):
    assert words in verdict(value, baselines, samples)
