# The line between the two nets of pair_digits.py, aligned and renormalized.
_base_ = ['./pair_digits.py']

test_evaluator = dict(_delete_=True, type='mmpretrain.Accuracy', topk=(1, ))
connectivity = dict(
    pairs=dict(digits=[f'result://configs/quickstart/pair_digits.py#net{number}' for number in (1, 2)]),
    matchers={
        'direct': dict(type='identity'),
        'weight matching': dict(type='weight_matching'),
        'activation matching': dict(type='permute'),
    },
    renormalizers=dict(reset=dict(type='reset', samples=1000), repair=dict(type='repair', samples=1000)),
    points=11,
    samples=1000)
