# A superclass of ImageNet, from a file of superclasses (SEAM_SUPERCLASSES); which, through SEAM_TARGET.
# The published list of 67 has no licence and is not part of mmreuse. out_classes has to fit the superclass.
_base_ = ['../_base_/datasets/imagenet_plain_224.py', './_base_published.py']

_problem = dict(
    type='ClassProblem',
    classes=dict(of='{{$SEAM_SUPERCLASSES:data/superclasses/imagenet.csv}}', name={{'$SEAM_TARGET:0'}}))
train_dataloader = dict(
    batch_size=64, dataset=dict(_delete_=True, **_problem, dataset={{_base_.train_dataloader.dataset}}))
val_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.val_dataloader.dataset}}))
test_dataloader = dict(dataset=dict(_delete_=True, **_problem, dataset={{_base_.test_dataloader.dataset}}))
