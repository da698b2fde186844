_base_ = ['../_base_/datasets/stanford_dogs_transfer_224.py', './_base_resnet50.py']

model = dict(head=dict(num_classes=120))
