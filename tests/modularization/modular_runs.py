"""A config of a module of the digits, for tests of runs."""
BASE = """dict(
    type='mmpretrain.ImageClassifier', backbone=dict(type='mmreuse.CifarResNet', depth=8, width=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=32,
              loss=dict(type='mmpretrain.CrossEntropyLoss'), topk=(1, )))"""
TRAINED = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/_base_/default_runtime.py']
model = {base}
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=4)
val_cfg = dict()
test_cfg = dict()
"""
MODULE = """
_base_ = ['{root}/configs/_base_/datasets/digits.py', '{root}/configs/seam/_base_module.py']
_problem = dict({problem})
train_dataloader = dict(
    batch_size=32, dataset=dict(_delete_=True, **_problem, dataset={{{{_base_.train_dataloader.dataset}}}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{{{_base_.val_dataloader.dataset}}}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{{{_base_.test_dataloader.dataset}}}}))
model = dict(base=dict(model={base}, checkpoint='{checkpoint}'), in_classes=10, out_classes={labels})
train_cfg = dict(max_epochs=8)
"""
#: In place of saliencies and a budget.
PUBLISHED = """
model.update(alpha=1.)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = None
custom_hooks = [dict(type='MaskScheduleHook', period=3), dict(type='ModuleSelectionHook', compat=True)]
"""


def write_module(folder, root, trained, problem="type='BinaryProblem', target=3", labels=2, extra='', checkpoint=None):
    """Write the config of a module of a trained classifier."""
    path = folder / 'module.py'
    path.write_text(MODULE.format(root=root, base=BASE, problem=problem, labels=labels,
                                  checkpoint=checkpoint or trained) + extra)
    return path
