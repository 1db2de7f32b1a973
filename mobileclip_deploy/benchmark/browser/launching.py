"""Browsers of this machine: which there are, and one started without a window, with a profile of its own."""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.errors import NotRun

__all__ = ["Browser", "find_browser", "installed_browsers"]

PROGRAMS: dict[str, tuple[str, ...]] = {
    "chromium": (
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ),
    "firefox": ("firefox", "firefox-esr", "/Applications/Firefox.app/Contents/MacOS/firefox"),
}
# Nothing that a page in front of a user would not have; but no window, no first-run pages, no sleep in the background.
CHROMIUM = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-dev-shm-usage",
    # On Linux WebGPU is behind a flag; on a machine without a GPU its adapter is software, which the result says.
    "--enable-unsafe-webgpu",
)
FIREFOX_SETTINGS = """\
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
user_pref("app.update.enabled", false);
user_pref("dom.webgpu.enabled", true);
"""


@dataclass(frozen=True)
class Browser:
    """A browser's program; `family` tells how it is started: chromium or firefox."""

    family: str
    program: str

    def start(self, address: str, folder: Path) -> subprocess.Popen[bytes]:
        """Open a page, in a process group of its own.

        Its address stands in a file of that folder, which leads there: the command line, which every user of this
        machine can read, names the file.

        Args:
            folder: an empty one, for the profile and for what the browser leaves in its folder for temporary files.
        """
        profile, temporary = folder / "profile", folder / "temporary"
        profile.mkdir()
        temporary.mkdir()
        start = folder / "start.html"
        start.write_text(f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">', encoding="utf-8")
        if self.family == "firefox":
            (profile / "user.js").write_text(FIREFOX_SETTINGS, encoding="utf-8")
            options = ["--headless", "--no-remote", "--profile", str(profile)]
        else:
            # Chromium refuses its sandbox to root, as in a container.
            sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
            options = [*CHROMIUM, *sandbox, f"--user-data-dir={profile}"]
        return subprocess.Popen(
            [self.program, *options, start.as_uri()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # On macOS the path of a socket there would be too long.
            env=os.environ | ({"TMPDIR": str(temporary)} if sys.platform == "linux" else {}),
        )


def installed_browsers() -> tuple[Browser, ...]:
    """One of each family that is installed."""
    found = []
    for family, names in PROGRAMS.items():
        program = next((path for name in names if (path := shutil.which(name))), None)
        if program is not None:
            found.append(Browser(family, program))
    return tuple(found)


def find_browser(selector: str | None) -> Browser:
    """The browser of a family, or at a path; the first that is installed for None.

    Raises:
        NotRun: it is not installed; the text says what is, or what to install.
    """
    installed = {one.family: one for one in installed_browsers()}
    if selector is None and installed:
        return next(iter(installed.values()))
    if selector in installed:
        return installed[selector]
    if selector is not None and (program := shutil.which(selector)):
        return Browser("firefox" if "firefox" in Path(program).name.lower() else "chromium", program)
    here = f"installed: {', '.join(installed)}" if installed else "none is installed (Debian: apt-get install chromium)"
    raise NotRun(f"no browser {selector or ''} here; {here}; or open the page yourself with device='browser:serve'")
