"""Tables in CSV files and as text."""
import csv

import pytest

from mmreuse.errors import ConfigError
from mmreuse.utils.tables import append_rows, format_rows, write_rows


def test_rows_are_read_back_as_they_were_written(tmp_path):
    rows = [{'name': 'zip(alpha=0.1, beta=1)', 'note': 'two\nlines, "quoted"'}, {'name': 'b', 'score': 0.25}]
    write_rows(tmp_path / 'table.csv', rows)
    with open(tmp_path / 'table.csv', newline='') as file:
        assert list(csv.DictReader(file)) == [
            {'name': rows[0]['name'], 'note': rows[0]['note'], 'score': ''}, {'name': 'b', 'note': '', 'score': '0.25'}]


def test_rows_are_added_to_those_of_the_same_columns_only(tmp_path):
    path = tmp_path / 'new/table.csv'
    append_rows(path, [{'a': 'x, y', 'b': None}])
    append_rows(path, [{'a': 1, 'b': 2}])
    before = path.read_text()
    assert before == 'a,b\n"x, y",\n1,2\n'
    with pytest.raises(ConfigError, match="has the columns 'a,b', these rows 'a,c'"):
        append_rows(path, [{'a': 1, 'c': 2}])
    assert path.read_text() == before


def test_text_is_plain_where_programs_are_asked_for_colours(monkeypatch):
    monkeypatch.setenv('FORCE_COLOR', '1')  # as Jupyter does
    assert format_rows([dict(network='a', macs=1200), dict(network='bcd', macs=7)]).splitlines() == [
        'network   macs', 'a        1,200', 'bcd          7']
