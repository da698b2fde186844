"""Merged classifiers: scores, structure in the state dict, sources that do not fit."""
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.structures import DataSample

from mmreuse.engine.merging import collect_moments, merge_sources, renormalize_merged
from mmreuse.errors import ArtefactError, ConfigError, SpaceError
from mmreuse.graph import Dense
from mmreuse.models import MergedClassifier
from mmreuse.networks import describe, load, save
from mmreuse.registry import MODELS
from mmreuse.utils.configs.files import read_config

TASKS = [[0, 3, 4], [1, 2]]


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmreuse')


def net(outputs: int, *, width: int = 4, depth: int = 8, **head) -> dict:
    head = head or dict(type='mmpretrain.LinearClsHead', num_classes=outputs, in_channels=4 * width)
    backbone = dict(type='CifarResNet', depth=depth, width=width, shortcut='conv3x3')
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone,
                neck=dict(type='mmpretrain.GlobalAveragePooling'), head=head)


def text(classes: list[int]) -> dict:
    return net(0, type='TextEmbeddingHead', in_channels=16, features=dict(num_classes=5, dims=16), classes=classes)


def build(models: list[dict], tasks=TASKS, **options) -> MergedClassifier:
    return MergedClassifier([dict(model=model, name=f'net {number}') for number, model in enumerate(models)],
                            tasks, (3, 8, 8), **options).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 8, 8)


@torch.no_grad()
def scores(model: MergedClassifier, images: torch.Tensor) -> torch.Tensor:
    return torch.stack([sample.task_scores for sample in model(images, mode='predict')])


@torch.no_grad()
def test_ensemble_scores_are_the_sources_bit_for_bit(images):
    model = build([net(3), net(2)], stop=0.)
    merge_sources(model, None, 'identity')
    found = scores(model, images)
    assert found.shape == (6, 2, 5)
    for number, task in enumerate(TASKS):
        assert torch.equal(found[:, number, task], model.sources[number].model(images))
        others = [label for label in range(5) if label not in task]
        assert (found[:, number, others] == -torch.inf).all()


def test_outputs_for_all_classes_are_scores_as_they_are(images):
    model = build([net(5), net(5)], stop=0.)
    merge_sources(model, None, 'identity')
    assert torch.equal(scores(model, images)[:, 1], model.sources[1].model(images))


def test_text_head_scores_all_classes_from_one_output(images):
    model = build([text(TASKS[0]), text(TASKS[1])])
    merge_sources(model, None, 'identity')
    found, head = scores(model, images), model.sources[0].model.head
    assert found.shape == (6, 1, 5)
    torch.testing.assert_close(found[:, 0], head.class_scores(model(images)))


def load_as_mmengine_does(model: MergedClassifier, state: dict) -> None:
    load_state_dict(model, state, strict=True)


@pytest.mark.parametrize('stop, load', [
    (None, MergedClassifier.load_state_dict), (0., MergedClassifier.load_state_dict),
    ('backbone.layer2.0.conv1', MergedClassifier.load_state_dict), ('backbone.layer2', load_as_mmengine_does)])
@torch.no_grad()
def test_state_dict_brings_its_structure(images, stop, load):
    model = build([text(TASKS[0]), text(TASKS[1])], stop=stop)
    merge_sources(model, lambda: collect_moments(model, [images]), 'permute')
    other = build([text(TASKS[0]), text(TASKS[1])], stop='backbone.layer1')
    load(other, model.state_dict())
    assert torch.equal(scores(other, images), scores(model, images))
    assert other.stop == model.stop and other.state_dict().keys() == model.state_dict().keys()


def test_widths_may_differ(images):
    model = build([net(5), net(5, width=6)], stop='backbone.layer2')
    merge_sources(model, lambda: collect_moments(model, [images]), 'zip')
    other = build([net(5), net(5, width=6)])
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(scores(other, images), scores(model, images))


def test_sources_are_in_no_state_dict_but_follow_to_other_types(images):
    model = build([net(5), net(5)])
    assert all(key.startswith('merged.') for key in model.state_dict())
    model.double()
    assert all(parameter.dtype == torch.float64
               for source in model.sources for parameter in source.model.parameters())


@torch.no_grad()
def test_merged_with_itself_a_net_is_itself(images):
    model = build([net(5), net(5)])
    model.sources[1].model.load_state_dict(model.sources[0].model.state_dict())
    merge_sources(model, lambda: collect_moments(model, [images]), 'permute')
    torch.testing.assert_close(model(images), model.sources[0].model(images), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_transformers_in_canonical_form_compute_the_same_and_merge_by_orthogonal_maps(images, tmp_path):
    """The digits transformer, a block of it, with itself: turned into its own streams it is itself."""
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    options = {'model.backbone.arch': arch, 'model.head.in_channels': 16, 'model.head.features.dims': 16}
    configs = [f'configs/zipit/sources/vit_digits-5+5_{part}.py' for part in 'ab']
    plain = MODELS.build(read_config(configs[0], options).model).eval()
    for parameter in plain.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    torch.save(plain.state_dict(), tmp_path / 'vit.pth')
    sources = [dict(config=config, options=options, checkpoint=tmp_path / 'vit.pth') for config in configs]
    model = MergedClassifier(sources, dict(num_classes=10, parts=2, seed=0), (3, 8, 8), canonicalize=True).eval()
    model.init_weights()
    for source in model.sources:
        torch.testing.assert_close(source.model(images), plain(images), rtol=1e-4, atol=1e-4)
    merge_sources(model, lambda: collect_moments(model, [images]), 'procrustes')
    turned = [name for name, matching in model.matchings.items() if isinstance(matching.map, Dense)]
    assert any(model.graphs[0].spaces[name].group == 'orthogonal' for name in turned)
    torch.testing.assert_close(model(images), plain(images), rtol=1e-3, atol=1e-3)
    save(model.plain_network(), tmp_path / 'merged.safetensors')
    assert torch.equal(load(tmp_path / 'merged.safetensors')(images), model(images))
    assert 'in canonical form' in describe(tmp_path / 'merged.safetensors')


def test_reset_takes_statistics_of_the_images(images):
    model = build([net(5), net(5)])
    merge_sources(model, None, 'identity')
    renormalize_merged(model, [images], ['reset'])
    trunk = model.merged.trunk.backbone
    torch.testing.assert_close(trunk.bn1.running_mean, trunk.conv1(images).mean((0, 2, 3)))


def test_one_list_of_classes_is_one_task_for_all(images):
    model = build([net(5), net(5)], tasks=[list(range(5))], stop='backbone.layer3')
    merge_sources(model, None, 'identity')
    assert scores(model, images).shape == (6, 2, 5)


@pytest.mark.parametrize('stop', [None, 'backbone.layer3'])
def test_every_output_learns_its_own_task(images, stop):
    model = build([text(TASKS[0]), text(TASKS[1])], stop=stop)
    samples = [DataSample().set_gt_label(label) for label in (0, 1, 2, 3, 4, 0)]
    loss = model(images, samples, mode='loss')['loss']
    logits = scores(model, images)
    own = [0 if stop is None or label in TASKS[0] else 1 for label in (0, 1, 2, 3, 4, 0)]
    expected = [-logits[number, output].log_softmax(0)[sample.gt_label] for number, (output, sample)
                in enumerate(zip(own, samples, strict=True))]
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all()
               for parameter in model.merged.parameters())


def test_other_modes_are_refused(images):
    with pytest.raises(ConfigError, match="no mode 'train'"):
        build([net(5), net(5)])(images, mode='train')


@pytest.mark.parametrize('models, options, message', [
    ([net(5), net(5)], dict(tasks=[[0, 1], [1, 2]]), 'share class 1'),
    ([net(5), net(5)], dict(tasks=[[0], [1], [2]]), '2 sources with 3 tasks'),
    ([net(4), net(4)], {}, "'net 0' has 4 outputs"),
    ([text(TASKS[1]), text(TASKS[0])], {}, 'in the order of the sources'),
    ([text(TASKS[0]), text(TASKS[1])], dict(num_classes=7), 'give num_classes=5'),
    ([net(3), net(2)], {}, 'Give a stop before the heads'),
    ([], {}, 'no sources'),
])
def test_what_does_not_fit_is_refused(models, options, message):
    with pytest.raises(ConfigError, match=message):
        build(models, **options)


def test_unknown_stop_names_the_nearest():
    with pytest.raises(SpaceError, match=r'backbone\.layer3'):
        build([net(5), net(5)], stop='backbone.layer9')


@pytest.mark.parametrize('source, message', [
    (dict(model=net(5), checkpoints='a.pth'), "Nearest: 'checkpoint'"),
    (dict(name='a'), 'config file or a model'),
    (dict(config='absent.py'), 'no config file absent.py'),
])
def test_source_that_is_none_is_refused(source, message):
    with pytest.raises(ConfigError, match=message):
        MergedClassifier([source], TASKS, (3, 8, 8))


def test_sources_that_prepare_images_differently_are_refused():
    models = [{**net(5), 'data_preprocessor': dict(mean=[mean] * 3, std=[1.] * 3)} for mean in (0., 1.)]
    with pytest.raises(ConfigError, match="'net 0' and 'net 1' prepare their images differently"):
        build(models)


def test_random_weights_are_not_merged():
    with pytest.raises(ConfigError, match='no checkpoint'):
        build([net(5), net(5)]).init_weights()


@pytest.mark.parametrize('saved, message', [
    (net(5, width=8), r'has shape .*Check model and checkpoint'),
    (net(4), r"'head\.fc\.weight' has shape"),
    (net(5, depth=14), "has no 'backbone.layer1.1"),
])
def test_checkpoint_of_another_net_is_refused(saved, message, tmp_path):
    torch.save(dict(state_dict=build([saved], tasks=[list(range(4))], stop=0., num_classes=saved['head']['num_classes'])
                    .sources[0].model.state_dict()), tmp_path / 'a.pth')
    model = MergedClassifier([dict(model=net(5), checkpoint=str(tmp_path / 'a.pth'))], [list(range(5))], (3, 8, 8))
    with pytest.raises(ArtefactError, match=message):
        model.init_weights()


def test_state_dict_of_other_nets_is_refused():
    model = build([net(5), net(5)])
    with pytest.raises(ArtefactError, match='not of a merged model'):
        model.load_state_dict(model.sources[0].model.state_dict())
    with pytest.raises(ArtefactError, match='of other sources'):
        model.load_state_dict(build([net(5, width=6), net(5, width=6)]).state_dict())
