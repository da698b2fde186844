# Two nets of one architecture, trained in one run from two initialisations, each on its own order of the images.
# Published: 160 epochs, batches of 128, learning rate 0.1, divided by ten after 32000 and 48000 iterations.
model = dict(
    type='ClassifierPair',
    nets=2,
    same_init=False,
    classifier=dict(
        type='mmpretrain.ImageClassifier',
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', loss=dict(type='mmpretrain.CrossEntropyLoss'))))

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', milestones=[32000, 48000], gamma=0.1, by_epoch=False)
train_cfg = dict(by_epoch=True, max_epochs=160, val_interval=10)
val_cfg = dict()
test_cfg = dict()

custom_hooks = [dict(type='NetCheckpointHook'), dict(type='ParameterDistanceHook')]
