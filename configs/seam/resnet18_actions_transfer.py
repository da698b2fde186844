_base_ = ['../_base_/datasets/stanford_actions_transfer_224.py', './_base_resnet18.py']

model = dict(head=dict(num_classes=40))
