# Every merger beside the sources and their ensemble.
_base_ = ['./ties_digits.py']

runner_type = 'MergingRunner'
merging = dict(
    mergers=['average', 'fisher', 'task_arithmetic', 'ties', 'dare', 'consensus', 'regmean', 'wudi', 'ace', 'iso_c',
             'tsv'],
    sources=True)
