"""Figures show what they are given; the report is one well-formed file."""
from html.parser import HTMLParser

import numpy as np
import pytest

from mmreuse.reassembly.zoo.structures import Adapter, Block, Candidate, Genotype, Partition
from mmreuse.visualization import Report, draw_learning_curves, draw_pareto, draw_partition, draw_similarity


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
        self.depth += tag not in ('meta', 'img')

    def handle_endtag(self, tag):
        self.depth -= 1

    def handle_data(self, data):
        self.words.append(data)


def test_report_is_one_file_that_fetches_nothing(tmp_path):
    report = Report('A & B')
    report.heading('<one>')
    report.table(('net', 'accuracy'), [('a', '97.0')])
    report.figure(draw_learning_curves({'run': [(1, 50.0), (2, 60.0)]}), 'curves')
    report.write(tmp_path / 'deep' / 'report.html')
    page = Tags()
    page.feed((tmp_path / 'deep' / 'report.html').read_text())
    assert page.depth == 0 and '<one>' in page.words and '97.0' in page.words
    sources = [value for _, attributes in page.opened for name, value in attributes.items() if name in ('src', 'href')]
    assert len(sources) == 1 and sources[0].startswith('data:image/png;base64,')
