# Five linear layers with residual connections, which keep the midpoint's features. Published: N(0, 0.005^2), 20 epochs.
_base_ = ['./linear-mlp8_pair_mnist.py']

model = dict(
    classifier=dict(
        backbone=dict(depth=5, init_std=0.005, residual=True),
        head=dict(init_cfg=dict(std=0.005))))
train_cfg = dict(max_epochs=20)
