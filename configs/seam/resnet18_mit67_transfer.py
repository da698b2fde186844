_base_ = ['../_base_/datasets/mit67_transfer_224.py', './_base_resnet18.py']

model = dict(head=dict(num_classes=67))
