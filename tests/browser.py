"""Finds or installs the browser that the tests drive; run as a script, it says which."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def find() -> str | None:
    """The path of a Chromium: the system's or Playwright's own; None if there is neither."""
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if system:
        return system
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def install() -> None:
    """Debian's chromium where apt-get works as root, otherwise Playwright's download."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        silent = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = "apt-get -qq update && apt-get -qq install -y chromium > /dev/null"
        if subprocess.run(command, shell=True, env=silent, check=False).returncode == 0:
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


if __name__ == "__main__":
    if not find():
        install()
    path = find()
    if not path:
        sys.exit("The tests need a browser: install Chromium, or run 'playwright install chromium' with a network.")
    print(f"Browser: {path}")
