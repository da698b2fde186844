_base_ = ['./singan_48px-300i_china.py']

train_dataloader = dict(dataset=dict(image='flower.jpg'))
