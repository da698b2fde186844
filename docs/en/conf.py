"""Sphinx configuration: `make docs` builds into docs/_build."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from docs.reference import write_pages  # noqa: E402
from mmreuse import __version__  # noqa: E402

write_pages()

project = 'mmreuse'
author = 'The mmreuse contributors'
release = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
autodoc_typehints = 'none'  # signatures would be longer than what they say; types are in the code
myst_enable_extensions = ['dollarmath', 'amsmath']
myst_heading_anchors = 3
html_theme = 'furo'
