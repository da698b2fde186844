"""Sphinx configuration: `make docs` builds into docs/_build."""
from mmreuse import __version__

project = 'mmreuse'
author = 'The mmreuse contributors'
release = __version__
extensions = ['myst_parser']
myst_enable_extensions = ['dollarmath', 'amsmath']
myst_heading_anchors = 3
html_theme = 'furo'
