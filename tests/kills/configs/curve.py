_base_ = ['./pair.py']

test_evaluator = dict(_delete_=True, type='mmpretrain.Accuracy', topk=(1, ))
connectivity = dict(
    pairs=dict(digits=['sources/net1.pth', 'sources/net2.pth']),
    matchers={'direct': dict(type='identity'), 'activation matching': dict(type='permute')},
    renormalizers=dict(reset=dict(type='reset', samples=128)),
    points=5,
    samples=128)
