"""CSV tables."""
import csv

import pytest

from mmreuse.errors import ConfigError
from mmreuse.utils.tables import append_rows, write_rows


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
