_base_ = ['./_base_.py']

model = dict(type='ClassifierPair', classifier={{_base_._model}})
train_dataloader = dict(batch_sampler=dict(type='ParallelBatchSampler', parts=2))
val_evaluator = dict(_delete_=True, type='NetAccuracy')
test_evaluator = dict(_delete_=True, type='NetAccuracy')
custom_hooks = [
    dict(type='NetCheckpointHook'), dict(type='ParameterDistanceHook'),
    dict(type='InterpolationHook', fraction=1., number=3, renormalizers=dict(reset='reset'), samples=128)
]
