# Stanford Dogs, Oxford-IIIT Pets, CUB-200-2011 and NABirds as one data set of 912 classes, and as four tasks. The
# training loader is for matching: one image of each in turn, as many of each as the smallest has. A tenth of the
# official test sets is for validation, the rest for the test.
_base_ = ['../_base_/datasets/fine_grained_224.py']

data_preprocessor = dict(num_classes=912)
num_classes = [120, 37, 200, 555]
tasks = [list(range(120)), list(range(120, 157)), list(range(157, 357)), list(range(357, 912))]
task_names = ['dogs', 'pets', 'cub', 'nabirds']

_root = '{{$MMREUSE_DATA_ROOT:data}}'
_kinds = [
    dict(type='StanfordDogs', data_root=_root + '/stanford_dogs'),
    dict(type='mmpretrain.OxfordIIITPet', data_root=_root + '/pets'),
    dict(type='mmpretrain.CUB', data_root=_root + '/CUB_200_2011'),
    dict(type='NABirds', data_root=_root + '/nabirds')
]
_splits = ['train', 'trainval', 'train', 'train']
_train = [
    dict(**kind, split=split, pipeline=_base_.train_pipeline) for kind, split in zip(_kinds, _splits, strict=True)
]
_tests = [dict(**kind, split='test', pipeline=_base_.test_pipeline) for kind in _kinds]

train_dataloader = dict(
    sampler=dict(shuffle=False),
    dataset=dict(type='DatasetMixture', num_classes=num_classes, lockstep=True, datasets=_train))
val_dataloader = dict(
    dataset=dict(
        type='DatasetMixture', num_classes=num_classes,
        datasets=[dict(**_base_.held_out, test_mode=True, dataset=test) for test in _tests]))
test_dataloader = dict(
    dataset=dict(
        type='DatasetMixture', num_classes=num_classes,
        datasets=[dict(**_base_.held_out, dataset=test) for test in _tests]))

val_evaluator = dict(_delete_=True, type='TaskAccuracy', tasks=tasks, names=task_names)
test_evaluator = val_evaluator
