# Four ResNet-50 of four data sets, a head for each; merged up to the heads. Each data set gives as many images.
_base_ = ['./_base_merge.py', './_base_fine-grained-mixture.py']

model = dict(
    tasks=_base_.tasks, input_size=(3, 224, 224), stop='neck',
    sources=[
        dict(config=f'configs/zipit/sources/resnet50_{name}.py', name=name) for name in _base_.task_names])
