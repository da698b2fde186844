"""Show what mmreuse does, on the embedded digits, in minutes: runs examples/quickstart.

    python tools/quickstart.py
"""
import runpy
from pathlib import Path

if __name__ == '__main__':
    runpy.run_path(str(Path(__file__).parents[1] / 'examples' / 'quickstart'), run_name='__main__')
