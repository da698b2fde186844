# The line between the two nets of pair_digits.py, aligned and renormalized. The quick start says where they lie.
_base_ = ['./pair_digits.py']

test_evaluator = dict(_delete_=True, type='mmpretrain.Accuracy', topk=(1, ))
connectivity = dict(
    pairs=dict(digits=[f'work_dirs/quickstart/pair/net{number}_epoch_12.pth' for number in (1, 2)]),
    matchers={
        'direct': dict(type='identity'),
        'weight matching': dict(type='weight_matching'),
        'activation matching': dict(type='permute'),
    },
    renormalizers=dict(reset=dict(type='reset', samples=1000), repair=dict(type='repair', samples=1000)),
    points=11,
    samples=1000)
