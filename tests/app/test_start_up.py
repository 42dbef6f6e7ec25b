"""What a router loads before it serves: what it needs."""

from __future__ import annotations

import subprocess
import sys


def test_numpy_is_loaded_by_what_needs_it_only() -> None:
    """It takes time to load, and 12 MB; prefixes, predictions and recordings need it."""
    program = "import sys; import fd_router.app.router; print('numpy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert told.stdout == "False\n"
