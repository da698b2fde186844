"""Metafiles in OpenMMLab's format: they name configs that exist, and their figures are those of committed results."""
import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
FILES = {path: yaml.safe_load((ROOT / path).read_text()) for path in INDEX}
MODELS = {f'{Path(path).parent.name}/{model["Name"]}': model
          for path, file in FILES.items() for model in file['Models']}


def figures(evidence: Mapping[str, Any]) -> list[float]:
    """Return the figures in a JSON file that a result is the mean of.

    Args:
        evidence: ``file``; ``in``, keys with wildcards that lead to rows; ``where``, what these hold; and ``value``,
            the key of the figure.
    """
    found = [json.loads((ROOT / evidence['file']).read_text())]
    for key in evidence['in']:
        found = [value for each in found for name, value in each.items() if fnmatch(name, key)]
    rows = [row for each in found for row in (each if isinstance(each, list) else [each])]
    return [row[evidence['value']] for row in rows
            if all(row.get(key) == value for key, value in evidence.get('where', {}).items())]


def test_every_algorithm_with_a_readme_has_a_metafile() -> None:
    folders = {path.parent.name for path in (ROOT / 'configs').glob('*/README.md')}
    assert {Path(path).parent.name for path in INDEX} == folders and len(folders) > 4
    for file in FILES.values():
        collections = {each['Name'] for each in file['Collections']}
        assert all((ROOT / each[key]).exists() for each in file['Collections'] for key in ('README',))
        assert all((ROOT / each['Code']['URL']).exists() for each in file['Collections'])
        assert {model['In Collection'] for model in file['Models']} <= collections


@pytest.mark.parametrize('name', MODELS)
def test_a_model_has_a_config_and_the_figures_of_its_results(name: str) -> None:
    model = MODELS[name]
    assert (ROOT / model['Config']).is_file() and Path(model['Config']).stem == model['Name']
    for result in model.get('Results', ()):
        value, = result['Metrics'].values()
        found = figures(result['Evidence'])
        assert found and value == round(sum(found) / len(found), 2), (name, found)


def test_most_models_with_committed_results_have_figures() -> None:
    assert sum('Results' in model for model in MODELS.values()) > 15
