# The published sweep: every point, with permutations, zips, and without an order. Configs add the renormalizers that
# fit. Statistics of 2048 images; published are those of all.
preserve_first = dict(
    matchers={
        'permute': dict(type='permute'),
        'zip': dict(type='zip', alpha=0.3, beta=0.125),
        'direct': dict(type='identity'),
    },
    points='all',
    samples=2048)
