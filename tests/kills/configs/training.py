_base_ = ['./_base_.py']

model = {{_base_._model}}
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
