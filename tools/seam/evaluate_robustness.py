"""Measure how many defects of a public network the networks have that were fine-tuned from it.

    python tools/seam/evaluate_robustness.py configs/seam/resnet18_mit67_transfer.py

The attack knows only the public network; its images are made once and kept, so that further students, as
--cfg-options robustness.students.mine=FOLDER adds them, cost two passes each. A table that was interrupted
resumes when the same command is given again.
"""
from mmreuse.command_line import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'RobustnessRunner', 'model, data and robustness')
