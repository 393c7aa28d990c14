"""Headless browsers of this machine: finds them, starts each with a new profile, and ends it.

Knows no page; `testkit.page` serves one and talks to it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_MAX_QUOTED = 400
"""Characters of a browser's output that a report quotes."""

_END_LIMIT = 10.0
"""Seconds that killed processes may take to end."""

CHROMIUM_OPTIONS = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--password-store=basic",
)

# Without them Firefox asks for updates and opens pages of its own at the first start.
FIREFOX_SETTINGS = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.preonboarding.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.downloads.remote.enabled": False,
    "browser.search.update": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.tabs.remote.unloadDelayMs": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "",
    "toolkit.telemetry.enabled": False,
}


@dataclass(frozen=True)
class Browser:
    """A browser that is installed."""

    name: str
    program: str

    @property
    def version(self) -> str:
        """What it says about itself, for reports."""
        ran = subprocess.run(
            [self.program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
        lines = ran.stdout.strip().splitlines()
        return lines[-1].strip() if lines else f"{self.name}, of an unknown version"

    def command(self, profile: Path, url: str) -> list[str]:
        """The command that shows this page without a window."""
        if self.name == "firefox":
            lines = [f"user_pref({_js(name)}, {_js(value)});" for name, value in FIREFOX_SETTINGS.items()]
            (profile / "user.js").write_text("\n".join(lines) + "\n")
            return [self.program, "--headless", "--no-remote", "--profile", str(profile), url]
        # Chromium's sandbox refuses to run as root.
        options = [*CHROMIUM_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        return [self.program, *options, f"--user-data-dir={profile}", url]


# util-linux: the kernel ends the browser with the thread that started it, also if that is killed.
_ENDS_WITH_US = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []

PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}
"""The names under which systems install them."""


def found(name: str) -> Browser | None:
    """The browser of that name: ``chromium`` or ``firefox``; None if it is not installed."""
    for program in PROGRAMS[name]:
        path = shutil.which(program)
        if path is not None:
            return Browser(name, path)
    return None


class Running:
    """A browser that runs, with a profile of its own."""

    def __init__(self, process: subprocess.Popen[bytes], profile: Path, output: Path) -> None:
        self.process = process
        self.profile = profile
        self._output = output

    @property
    def last_output(self) -> str:
        """The end of what it has printed, for a report."""
        text = self._output.read_text(errors="replace")[-_MAX_QUOTED:]
        return " | ".join(text.strip().splitlines())


@contextmanager
def running(browser: Browser, url: str, *options: str) -> Iterator[Running]:
    """Show this page. On exit it and its profile are gone. Call it in a thread that lives as long."""
    # Firefox may still write into the profile while its processes end.
    with tempfile.TemporaryDirectory(prefix="libp2p-quic-browser-", ignore_cleanup_errors=True) as folder:
        profile, output = Path(folder, "profile"), Path(folder, "output")
        profile.mkdir()
        command = browser.command(profile, url)
        with output.open("wb") as out:
            process = subprocess.Popen(
                [*_ENDS_WITH_US, *command[:-1], *options, url],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # All of its processes are in one group, which ends as a whole.
                start_new_session=True,
                env={**os.environ, "HOME": folder, "MOZ_CRASHREPORTER_DISABLE": "1"},
            )
        try:
            yield Running(process, profile, output)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            wait_for_group(process.pid)


def wait_for_group(group: int) -> None:
    """Wait until the last process of a browser has ended, after which none writes into the profile."""
    deadline = time.monotonic() + _END_LIMIT
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            # Only a parent can wait for a process, and theirs has ended.
            time.sleep(0.01)


def _js(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'
