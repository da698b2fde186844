# One class of CIFAR-100 against the rest; --cfg-options target=3: another.
_base_ = ['../_base_/datasets/cifar100.py', './_base_published.py']

# As published. The networks were trained with other numbers, see README.md.
data_preprocessor = dict(mean=[125.307, 122.961, 113.8575], std=[63.0105, 62.0925, 66.708])

target = 0
_problem = dict(type='BinaryProblem', target='${target}')
train_dataloader = dict(
    batch_size=64, dataset=dict(_delete_=True, **_problem, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.test_dataloader.dataset}}))
