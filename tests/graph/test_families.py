"""Models drawn at random from all of timm verify; one of each family comes apart at all its places, exactly.

The draw changes from day to day. A failure names its seed, `MMREUSE_TEST_SEED=20261130`; with that in the environment
the same models are drawn again. `pytest -m slow -rA -k families` draws many and lists the families.
"""
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from mmreuse.graph import cut, cut_points

timm = pytest.importorskip('timm')
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools' / 'analysis_tools'))
import model_libraries  # noqa: E402
import verify_graph  # noqa: E402

SEED = int(os.environ.get('MMREUSE_TEST_SEED', time.strftime('%Y%m%d')))

FAMILIES = [
    'vit_tiny_patch16_224', 'gcresnet33ts', 'beit_base_patch16_224', 'botnet26t_256', 'caformer_s18', 'cait_xxs24_224',
    'coat_lite_tiny', 'coatnet_nano_rw_224', 'convit_tiny', 'convmixer_1024_20_ks9_p14', 'convnext_atto',
    'cpubone_b0_bfrobust', 'crossvit_9_240', 'cs3darknet_s', 'csatv2', 'cspnext_tiny', 'davit_tiny',
    'deit3_small_patch16_224', 'densenet121', 'dla46_c', 'nfnet_l0', 'dpn48b', 'ese_vovnet19b_slim_dw', 'resnet18',
    'edgenext_xx_small', 'efficientformer_l1', 'efficientformerv2_s0', 'tf_efficientnet_lite0', 'efficientvim_m1',
    'efficientvit_b0', 'efficientvit_m0', 'eva02_tiny_patch14_224', 'fasternet_t0', 'fastvit_t8',
    'mobilenetv3_small_050', 'focalnet_tiny_srf', 'gcvit_xxtiny', 'ghostnet_050', 'mixer_s32_224', 'hardcorenas_a',
    'hgnetv2_b0', 'hiera_tiny_224', 'hrnet_w18_small', 'iformer_s', 'inception_next_atto', 'inception_resnet_v2',
    'inception_v3', 'inception_v4', 'lcnetv2_small', 'legacy_seresnet18', 'legacy_xception', 'levit_128s',
    'lowformer_b0', 'mambaout_femto', 'mobilevit_xxs', 'mvitv2_tiny', 'nasnetalarge', 'nest_tiny_jx', 'nextvit_small',
    'pit_ti_224', 'pnasnet5large', 'pvt_v2_b0', 'rdnet_tiny', 'regnetx_002', 'repghostnet_050', 'repvit_m0_9',
    'res2net50_26w_4s', 'resnest14d', 'resnetv2_18', 'rexnet_100', 'samvit_base_patch16_224', 'selecsls42',
    'sequencer2d_s', 'shvit_s1', 'skresnet18', 'starnet_s050', 'swiftformer_xs', 'swin_tiny_patch4_window7_224',
    'swinv2_tiny_window8_256', 'swinv2_cr_tiny_224', 'test_vit_relpos', 'tiny_vit_5m_224', 'tnt_s_patch16_224',
    'tresnet_m', 'twins_svt_small', 'vgg11_bn', 'visformer_tiny', 'vit_small_r26_s32_224', 'vitamin_small_224',
    'volo_d1_224', 'xception41', 'xcit_nano_12_p16_224', 'naflexvit_base_patch16_gap',
]


def examine_drawn(number: int, largest: float) -> None:
    """Trace and verify models of at most ``largest`` parameters, at the smallest size that they take."""
    names = model_libraries.draw_models('timm', timm.list_models(), number, SEED, largest)
    records = [verify_graph.examine('timm', name, None) for name in names]
    wrong = [verify_graph.line_of(record) for record in records if not record['verified']]
    assert not wrong, f'of {number} models drawn with MMREUSE_TEST_SEED={SEED}:\n' + '\n'.join(wrong)


def test_small_models_drawn_at_random_verify() -> None:
    examine_drawn(3, largest=4e6)


@pytest.mark.slow
def test_many_models_drawn_at_random_verify() -> None:
    examine_drawn(60, largest=3e7)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['botnet26t_256', 'eca_botnext26ts_256'])
def test_features_of_the_value_stay_in_their_head(name: str) -> None:
    record = verify_graph.examine('timm', name, None)
    assert record['verified'], record['reason']


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILIES)
def test_families_come_apart_exactly(name: str) -> None:
    model = timm.create_model(name).eval()
    config = model.default_cfg
    size = config['input_size'][1] if config.get('fixed_input_size') else 96
    x = torch.randn(3, 3, size, size)
    points = [point.name for point in cut_points(model, x[:1])]
    with torch.no_grad():
        y = x
        for part in cut(model, points, x[:1]):
            y = part(y)
        assert torch.equal(y, model(x))
