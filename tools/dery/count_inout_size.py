"""Write the input and output shapes of all nodes of the zoo of a config."""
from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

from mmreuse.apis.stages import stage_main

if __name__ == '__main__':
    stage_main(__doc__, 'NodeShapeRunner')
