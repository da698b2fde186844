_base_ = ['./vit_digits-5+5_a.py']

classes = dict(part=1)
model = dict(head=dict(classes=classes))
train_dataloader = dict(dataset=dict(classes=classes))
val_dataloader = dict(dataset=dict(classes=classes))
test_dataloader = dict(dataset=dict(classes=classes))
randomness = dict(seed={{_base_._other_seed}})  # another initialisation than the other half's
