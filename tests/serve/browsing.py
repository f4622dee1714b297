"""What tests in a real browser have in common."""

from __future__ import annotations

import os
import shutil

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
IN_A_BROWSER = [
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium"),
    pytest.mark.xdist_group("browser"),
    pytest.mark.slow,
]
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 800}
