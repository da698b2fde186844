_base_ = ['./_base_tiny-imagenet32-100+100.py']

classes = dict(num_classes=200, parts=2, part=1, seed={{_base_.split_seed}})
model = dict(head=dict(classes=classes))
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassSubset', classes=classes, dataset={{_base_.test_dataloader.dataset}}))
randomness = dict(seed={{_base_.other_seed}})  # another initialisation than the other half's
