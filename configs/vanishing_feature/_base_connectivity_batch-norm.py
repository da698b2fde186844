# What fits nets with batch norms.
_base_ = ['./_base_connectivity.py']

connectivity = dict(
    renormalizers={
        'RESET': dict(type='reset'),
        'REPAIR': dict(type='repair'),
        'sequential REPAIR': dict(type='repair', order='sequential'),
        'closed-form REPAIR': dict(type='closed_form_repair'),
        'bias removal': dict(type='bias_removal'),
        'auto': dict(type='auto', candidates=['reset', 'repair']),
    })
