# A net for the other half of the digits, from another initialisation.
_base_ = ['./half-a_digits.py']

classes = dict(part=1)
model = dict(head=dict(classes=classes))
train_dataloader = dict(dataset=dict(classes=classes))
val_dataloader = dict(dataset=dict(classes=classes))
test_dataloader = dict(dataset=dict(classes=classes))
randomness = dict(seed=1)
