"""Pages in headless Chromium: what overflows, what cannot be read, what is broken; and pictures of them.

    python tests/visualization/browser.py work_dirs/quickstart/report.html docs/en/figures/report   # four pictures
"""
import base64
import io
import itertools
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

WIDTHS, SCHEMES = (390, 1400), ('light', 'dark')
_FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-dev-shm-usage',
          '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars')
AUDIT = (Path(__file__).parent / 'audit.js').read_text()


def missing() -> list[str]:
    """Return which programs are not installed."""
    return [name for name in ('chromium', 'chromedriver') if shutil.which(name) is None]


class Browser:
    """A session of chromedriver."""

    def __init__(self, address: str, profile: Path) -> None:
        self.address = address
        options = dict(args=[*_FLAGS, f'--user-data-dir={profile}'], binary=shutil.which('chromium'))
        capabilities = {'browserName': 'chrome', 'goog:chromeOptions': options}
        session = self._post('/session', capabilities=dict(alwaysMatch=capabilities))['sessionId']
        self.address += f'/session/{session}'

    def open(self, page: Path, width: int, scheme: str, height: int = 900) -> None:
        """Show a file in a window of some width, to somebody who prefers a scheme."""
        self._devtools('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
                       mobile=False)
        self._devtools('Emulation.setEmulatedMedia', features=[dict(name='prefers-color-scheme', value=scheme)])
        self._post('/url', url=page.resolve().as_uri())

    def run(self, script: str) -> Any:
        """Return what a script returns."""
        return self._post('/execute/sync', script=script, args=[])

    def audit(self) -> dict[str, Any]:
        """Return the findings of ``audit.js`` about the page that is shown."""
        return self.run(AUDIT)

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG of 64 colours."""
        shot = io.BytesIO(base64.b64decode(self._devtools('Page.captureScreenshot', format='png')['data']))
        Image.open(shot).convert('RGB').quantize(64).save(path, optimize=True)

    def close(self) -> None:
        """End Chromium."""
        urllib.request.urlopen(urllib.request.Request(self.address, method='DELETE'), timeout=30).close()

    def _devtools(self, command: str, **params: Any) -> Any:
        return self._post('/goog/cdp/execute', cmd=command, params=params)

    def _post(self, place: str, **content: Any) -> Any:
        request = urllib.request.Request(self.address + place, json.dumps(content).encode(),
                                         {'Content-Type': 'application/json'})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)['value']


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile, and end it."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(['chromedriver', f'--port={port}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as attempt:
                if attempt.connect_ex(('127.0.0.1', port)) == 0:
                    break
            time.sleep(0.05)
        session = Browser(f'http://127.0.0.1:{port}', profile)
        try:
            yield session
        finally:
            session.close()
    finally:
        driver.terminate()
        driver.wait(30)


def take_pictures(page: Path, out: Path, profile: Path) -> list[Path]:
    """Write ``<out>-<width>-<scheme>.png`` at both widths in both schemes."""
    made = []
    with browser(profile) as session:
        for width, scheme in itertools.product(WIDTHS, SCHEMES):
            session.open(page, width, scheme, 844 if width < 500 else 1000)
            made.append(out.with_name(f'{out.name}-{width}-{scheme}.png'))
            session.picture(made[-1])
    return made


if __name__ == '__main__':
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        print(*take_pictures(Path(sys.argv[1]), Path(sys.argv[2]), Path(folder)), sep='\n')
