"""Config files that cannot be read, and those that are data."""
import json
import re

import pytest

from mmreuse.engine.configs.options import load_config
from mmreuse.errors import ConfigError
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.configs.keys import drop_helpers


@pytest.fixture
def write(tmp_path):
    """Write files; give the path of the first."""
    def write(**files: str):
        for name, text in files.items():
            (tmp_path / name.replace('_dot_', '.')).write_text(text)
        return tmp_path / next(iter(files)).replace('_dot_', '.')
    return write


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match='is a folder'):
        read_config(tmp_path)


@pytest.mark.parametrize('files, message', [
    (dict(a_dot_py='x = ('), r'a\.py: does not parse as Python \(line 1'),
    (dict(a_dot_py="_base_ = ['b.py']"), r"_base_ names 'b\.py', and there is no file"),
    (dict(a_dot_py="_base_ = ['a.py']"), r'includes itself: .*a\.py -> .*a\.py'),
    (dict(a_dot_py="_base_ = 'b.py'", b_dot_py="_base_ = './a.py'"), r'b\.py: includes itself'),
    (dict(a_dot_py='x = 1\ny = 1 / 0\n'), r'a\.py, line 2: the config cannot be read: ZeroDivisionError'),
    (dict(a_dot_py="_base_ = 'b.py'\nz = 1", b_dot_py='\n\nmodel = nothing'), r'b\.py, line 3: .*NameError'),
    (dict(a_dot_py="_base_ = ['b.py', 'c.py']", b_dot_py='x = 1', c_dot_py='x = 2'), r'Duplicate keys'),
    (dict(a_dot_py="_base_ = 'b.py'\nmodel = dict(x=1)", b_dot_py='model = 5'), 'cannot inherit'),
    (dict(a_dot_py='text = 1'), 'cannot be read'),
    (dict(a_dot_txt='x = 1'), r'a\.txt: is no config'),
    (dict(a_dot_yml='a: ['), 'is no plain YAML'),
    (dict(a_dot_json='{"a": 1,}'), 'is no plain JSON'),
    (dict(a_dot_yml='- 1'), 'must hold keys'),
    (dict(a_dot_yml='_base_: b.yml', b_dot_yml='_base_: a.yml'), 'includes itself'),
])
def test_what_is_wrong_with_a_file_is_said_in_a_line(write, files, message):
    with pytest.raises(ConfigError, match=message) as raised:
        read_config(write(**files))
    assert '\n' not in str(raised.value)


RUN = '!!python/object/apply:os.system ["touch {target}"]'


@pytest.mark.parametrize('name, text', [
    ('a.yml', f'model: {RUN}'),
    ('a.yaml', f'? {RUN}\n: 1'),
    ('a.yml', 'model: {{type: os.system, command: "touch {target}"}}'),
    ('a.yml', 'model: {{type: subprocess.check_output, args: [touch, "{target}"]}}'),
    ('a.json', '{{"custom_imports": {{"imports": ["code"]}}}}'),
    ('a.json', '{{"{{{{$NOTHING:custom_imports}}}}": {{"imports": ["code"]}}, "model": {{"type": "code.f"}}}}'),
    ('a.yml', '_base_: code.py'),
    ('a.yml', 'model: {{type: MergedClassifier, sources: [{{config: code.py}}]}}'),
    ('a.yml', 'optim_wrapper: {{constructor: code.f}}'),
    ('a.yml', 'zoo: [{{key: a, library: local, model: code.f}}]'),
    ('a.yml', 'model: {{type: ResNet, _scope_: code}}'),
    ('a.yml', 'default_scope: code'),
    ('a.yml', 'trust_checkpoint: true'),
    ('a.yml', "trust_code: ['net.py:make']"),
])
def test_data_run_no_code(tmp_path, monkeypatch, name, text):
    target = tmp_path / 'touched'
    (tmp_path / 'code.py').write_text(f'open({str(target)!r}, "w")\ndef f(**kwargs): pass\nmodel = dict()')
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / name
    path.write_text(text.format(target=target))
    with pytest.raises(ConfigError, match='data'):
        read_config(path)
    assert not target.exists()


def test_data_say_what_python_says(tmp_path, monkeypatch):
    monkeypatch.setenv('SIZE', '3')
    values = dict(model=dict(type='mmpretrain.ImageClassifier', backbone=dict(type='CifarResNet', depth=8)),
                  work_dir='{{$SIZE:5}}/{{$NOT_SET_ANYWHERE:x}}')
    (tmp_path / 'base.json').write_text(json.dumps(values))
    (tmp_path / 'own.yml').write_text('_base_: base.json\nmodel: {backbone: {depth: 20}}\n')
    cfg = read_config(tmp_path / 'own.yml')
    assert cfg.model.backbone == dict(type='CifarResNet', depth=20) and cfg.work_dir == '3/x'
    assert cfg.filename == str(tmp_path / 'own.yml')


def test_helpers_are_dropped_and_mistakes_are_not(write):
    path = write(a_dot_py="_base_ = 'b.py'\nsteps = [dict(type='A')]\ndata = dict(dataset=dict(pipeline=steps))\n",
                 b_dot_py='for_others = 1\n_private = 2\n')
    cfg = load_config(path)
    drop_helpers(cfg)
    assert set(cfg.to_dict()) == {'data'}
    path.write_text('piepline = [1]\n')
    with pytest.raises(ConfigError, match="nothing reads the key 'piepline'"):
        drop_helpers(load_config(path))


@pytest.mark.parametrize('option, message', [
    (dict(helper=1), "nothing reads the key 'helper'. Its value is used where the file is written"),
    ({'model.depth.x': 1}, "'model.depth' is 8, which has no 'x'"),
    ({'custom_hooks.2.type': 'A'}, "'custom_hooks' is a list of 1, and '2' is none of its places"),
    ({'custom_hooks.x': 'A'}, "'x' is none of its places"),
    ({'model.deph': 1}, "there is no 'deph'. Nearest: 'depth'"),
    ({'model': 1, 'model.depth': 1}, 'cannot be merged'),
])
def test_options_without_a_place_are_named(write, option, message):
    path = write(a_dot_py="helper = 8\nmodel = dict(depth=helper, max_params=1)\ncustom_hooks = [dict(type='A')]\n")
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        load_config(path, option)
    assert '\n' not in str(raised.value)
    assert load_config(path, {'model.depth': 3, 'custom_hooks.0.type': 'A', 'model.new': 1}).model.depth == 3
    assert load_config(path, {'model.min_params': 0}).model.min_params == 0  # not a slip for max_params


FAMILY = """
part = 0
seed_of_split = 0
classes = dict(part='${part}', seed='${seed_of_split}')
randomness = dict(seed='${100 * part + seed_of_split}')
work_dir = 'work_dirs/net/split${seed_of_split}_part${part}'
train_dataloader = dict(dataset=dict(classes='${classes}'))
test_dataloader = dict(dataset=dict(classes=classes))
"""


def test_one_value_changes_all_that_follows_from_it(write):
    path = write(a_dot_py="_base_ = 'b.py'\npart = 1", b_dot_py=FAMILY)
    for cfg in (read_config(path), read_config(path.with_name('b.py'), dict(part=1)),
                load_config(str(path.with_name('b.py')), {'part': 1})):
        assert cfg.randomness.seed == 100 and cfg.work_dir == 'work_dirs/net/split0_part1'
        assert cfg.train_dataloader.dataset.classes == dict(part=1, seed=0) == cfg.test_dataloader.dataset.classes
    cfg = load_config(str(path), {'seed_of_split': 3, 'randomness.seed': 7})
    assert cfg.work_dir == 'work_dirs/net/split3_part1' and cfg.randomness.seed == 7
    drop_helpers(cfg)
    assert 'part' not in cfg


def test_a_variant_is_merged_into_the_config(write):
    path = write(a_dot_py="_base_ = 'b.py'\nvariants = dict(small=dict(train_cfg=dict(max_epochs=2)))",
                 b_dot_py="variant = 'large'\ntrain_cfg = dict(max_epochs=9, by_epoch=True)\nnet = 18\n"
                          "variants = dict(small=dict(seed='${net}'), large=dict(train_cfg=dict(_delete_=True)))")
    assert load_config(str(path)).to_dict() == dict(train_cfg={}, net=18)
    small = load_config(str(path), dict(variant='small', net=34))
    assert small.train_cfg == dict(max_epochs=2, by_epoch=True) and small.seed == 34
    drop_helpers(small)
    with pytest.raises(ConfigError, match="variant = 'smal' is none of its variants. Nearest: 'small'"):
        load_config(str(path), dict(variant='smal'))


@pytest.mark.parametrize('value, message', [
    ('${stge}', r"seed refers to \$\{stge\}, and there is no 'stge'. Nearest: 'stage'"),
    ('${stage.x.y}', 'cannot be evaluated'),
    ('${seed}', 'refers to itself'),
    ('${open()}', 'cannot be evaluated'),
    ('${1 +}', 'cannot be evaluated'),
])
def test_references_that_stand_for_nothing_are_named(write, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(write(a_dot_py=f"stage = dict(x=1)\nseed = '{value}'"))
    assert 'a.py' in str(caught.value)
