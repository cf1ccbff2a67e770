"""Our code on the released classes, without the processes around them.

Each file ``released_*.py`` runs in a process of its own: Autobahn works with Twisted or with asyncio in one process,
not with both, and the clients of the other tests use asyncio.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("released_*.py")))
def test_released_classes(file):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(HERE / file)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
