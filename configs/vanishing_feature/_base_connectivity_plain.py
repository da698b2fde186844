# What fits nets without norms.
_base_ = ['./_base_connectivity.py']

connectivity = dict(
    renormalizers={
        'REPAIR': dict(type='repair'),
        'RESCALE': dict(type='rescale'),
        'RESHIFT': dict(type='reshift'),
        'sequential REPAIR': dict(type='repair', order='sequential'),
        'closed-form REPAIR': dict(type='closed_form_repair'),
        'bias calibration': dict(type='bias_calibration'),
        'bias removal': dict(type='bias_removal'),
        'zero bias': dict(type='zero_bias'),
        'auto': dict(type='auto', candidates=['repair', 'rescale', 'bias_calibration']),
    })
