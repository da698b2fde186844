# Two workers make the batches.
_base_ = ['./training.py']

train_dataloader = dict(num_workers=2)
