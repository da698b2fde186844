# Networks between two trained ones: direct, and with the second in the order of the first. Curve configs inherit a
# training's config beside this one with the renormalizers that fit, and name its checkpoints.
connectivity = dict(
    matchers={
        'direct': dict(type='identity'),
        'weight matching': dict(type='weight_matching', restarts=2),
        'activation matching': dict(type='permute'),
    },
    points=11,
    samples=2048)
