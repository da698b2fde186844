"""Packaging of mmreuse: ``pip install -e .`` (the OpenMMLab stack: ``requirements/mminstall.txt``)."""
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
#: What stands beside the package in a checkout, and in mmreuse/.mim of an installed one.
SHIPPED = ('configs', 'tools', 'model-index.yml')


class BuildWithConfigs(build_py):
    """Also puts configs and tools into the package, where ``mmreuse.utils.files.paths.shipped`` finds them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib) / 'mmreuse' / '.mim'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in SHIPPED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__', '*.png'))
            else:
                shutil.copy(ROOT / name, folder / name)


def requirements(name: str) -> list[str]:
    """Read ``requirements/<name>.txt`` without comments."""
    lines = (line.split('#')[0].strip() for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines())
    return [line for line in lines if line]


def version() -> str:
    """Read the version without importing the package, whose dependencies may be missing."""
    namespace: dict[str, str] = {}
    exec((ROOT / 'mmreuse' / 'version.py').read_text(), namespace)
    return namespace['__version__']


setup(
    name='mmreuse',
    version=version(),
    description='OpenMMLab toolbox for reusing trained vision models',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['mmreuse', 'mmreuse.*']),
    package_data={'mmreuse': ['py.typed'], 'mmreuse.datasets': ['*.json'],
                  'mmreuse.visualization.report': ['page.*']},
    entry_points={'console_scripts': ['mmreuse = mmreuse.__main__:main']},
    cmdclass={'build_py': BuildWithConfigs},
    install_requires=requirements('runtime'),
    extras_require={name: requirements(name)
                    for name in ('deepsparse', 'deploy', 'docs', 'hf', 'lint', 'mminstall', 'tests')},
    zip_safe=False,
)
