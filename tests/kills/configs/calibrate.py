# A network gets the statistics of another one of its form back, layer by layer.
_base_ = ['./_jobs.py']

runner_type = 'NetworkRunner'
networks = ['sources/a.safetensors', 'sources/b.safetensors']
job = dict(type='renormalize', renormalizers=[dict(type='calibrate', samples=256)])
