_base_ = ['./_jobs.py']

runner_type = 'NetworkRunner'
networks = ['sources/a.safetensors', 'sources/b.safetensors']
job = dict(type='distill', epochs=3)
controls = False
