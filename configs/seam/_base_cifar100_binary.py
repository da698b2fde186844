# One class of CIFAR-100 against the rest; the target through SEAM_TARGET.
_base_ = ['../_base_/datasets/cifar100.py', './_base_published.py']

_problem = dict(type='BinaryProblem', target={{'$SEAM_TARGET:0'}})
train_dataloader = dict(
    batch_size=64, dataset=dict(_delete_=True, **_problem, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.test_dataloader.dataset}}))
