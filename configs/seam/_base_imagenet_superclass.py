# One of the 67 published superclasses of ImageNet; --cfg-options target=3: another. out_classes has to fit it.
_base_ = ['../_base_/datasets/imagenet_plain_224.py', './_base_published.py']

target = 0
_problem = dict(type='ClassProblem', classes=dict(of='imagenet_compat', name='${target}'))
train_dataloader = dict(
    batch_size=64, dataset=dict(_delete_=True, **_problem, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.test_dataloader.dataset}}))
