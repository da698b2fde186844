# The two nets of pair_digits.py merged behind ever more of their first layers.
_base_ = ['./pair_digits.py', '../vanishing_feature/_base_preserve_first.py']

train_dataloader = dict(batch_sampler=None)
test_evaluator = dict(_delete_=True, type='mmpretrain.Accuracy', topk=(1, ))
preserve_first = dict(
    pairs=dict(digits=[f'result://configs/quickstart/pair_digits.py#net{number}' for number in (1, 2)]),
    renormalizers=dict(reset=dict(type='reset')),
    samples=512)
