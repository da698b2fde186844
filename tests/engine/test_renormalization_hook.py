"""Renormalizers that choose, in runs that merge."""
import pytest
from merging_runs import merge_config, save_random_sources

from mmreuse.engine import merging
from mmreuse.engine.run_config import run_config
from mmreuse.errors import ConfigError
from mmreuse.renormalization import auto


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sources')
    save_random_sources(folder)
    return folder


def options(*renormalizers):
    return {'default_hooks.merge.samples': 50, 'default_hooks.renormalize.renormalizers': list(renormalizers)}


def test_a_choice_is_made_by_the_validation_of_the_run(folder, tmp_path, monkeypatch):
    """Also where several outputs have no accuracy of their own: the first metric counts."""
    chosen, original = [], merging.renormalize

    def noted(merged, loader, renormalizer, *graphs, score=None, **others):
        def tries(model, loader, *, samples=None, score=None):
            chosen.append(auto(model, loader, candidates=['reset', 'zero_bias'], samples=50, score=score))
        original(merged, loader, tries, *graphs, score=score, **others)

    monkeypatch.setattr(merging, 'renormalize', noted)
    metrics = run_config(merge_config(folder, stop='backbone.layer2'), work_dir=tmp_path, options=options('auto'))
    assert set(chosen[0].scores) == {'none', 'reset', 'zero_bias'}
    assert metrics['val/joint'] == pytest.approx(max(chosen[0].scores.values()))


def test_without_validation_there_is_nothing_to_choose_by(folder, tmp_path):
    cfg = options(dict(type='bias_removal')) | dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    with pytest.raises(ConfigError, match='bias_removal.*no val_dataloader'):
        run_config(merge_config(folder, stop='backbone.layer2'), work_dir=tmp_path, options=cfg)
