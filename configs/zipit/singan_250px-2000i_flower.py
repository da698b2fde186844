_base_ = ['./singan_250px-2000i_china.py']

train_dataloader = dict(dataset=dict(image='flower.jpg'))
