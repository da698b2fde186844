"""Packaging of mmreuse: ``pip install -e .`` (the OpenMMLab stack: ``requirements/mminstall.txt``)."""
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


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
    package_data={'mmreuse.datasets': ['*.json']},
    install_requires=requirements('runtime'),
    extras_require={name: requirements(name)
                    for name in ('deepsparse', 'deploy', 'docs', 'lint', 'mminstall', 'tests')},
    zip_safe=False,
)
