"""Browsers of this machine: which there are, and one started without a window, with a profile of its own."""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.escaping import uncoloured
from mobileclip_deploy.benchmark.bounded import one_line
from mobileclip_deploy.errors import NotRun

PROGRAMS: dict[str, tuple[str, ...]] = {
    "chromium": (
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
    ),
    "firefox": (
        "firefox",
        "firefox-esr",
        "/Applications/Firefox.app/Contents/MacOS/firefox",
        r"C:\Program Files\Mozilla Firefox\firefox.exe",
    ),
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
STDERR = "stderr"
LAST_BYTES = 4096
"""How much of stderr is searched for its last line."""
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
            folder: an empty one, for the profile, for the browser's temporary files, and for what it writes to stderr
                (`last_words`). Its path should be short: that of Chromium's socket is 45 characters longer, and has
                room for 107.
        """
        profile = folder / "profile"
        profile.mkdir()
        start = folder / "start.html"
        start.write_text(f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">', encoding="utf-8")
        if self.family == "firefox":
            (profile / "user.js").write_text(FIREFOX_SETTINGS, encoding="utf-8")
            options = ["--headless", "--no-remote", "--profile", str(profile)]
        else:
            # Chromium refuses its sandbox to root, as in a container.
            sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
            options = [*CHROMIUM, *sandbox, f"--user-data-dir={profile}"]
        with (folder / STDERR).open("wb") as stderr:
            return subprocess.Popen(
                [self.program, *options, start.as_uri()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                # On macOS the path of a socket there would be too long.
                env=os.environ | ({"TMPDIR": str(folder)} if sys.platform == "linux" else {}),
            )


def last_words(folder: Path) -> str:
    """The last line that a browser wrote to stderr, in at most 300 characters; empty where it wrote none.

    Helpers of Chromium complain after the line in which it says why it ends (FATAL): then it is that line.

    Args:
        folder: which it was started with.
    """
    with (folder / STDERR).open("rb") as stderr:
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - LAST_BYTES))
        lines = uncoloured(stderr.read().decode(errors="replace")).split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return one_line(next((line for line in reversed(said) if ":FATAL:" in line), said[-1] if said else ""), 300)


def installed_browsers() -> dict[str, Browser]:
    """One of each family that is installed, by the family's name."""
    found = {family: next(filter(None, map(shutil.which, names)), None) for family, names in PROGRAMS.items()}
    return {family: Browser(family, program) for family, program in found.items() if program is not None}


def find_browser(selector: str | None) -> Browser:
    """The browser of a family, or at a path; the first that is installed for None.

    Raises:
        NotRun: it is not installed; the text says what is, or what to install.
    """
    installed = installed_browsers()
    if selector is None and installed:
        return next(iter(installed.values()))
    if selector in installed:
        return installed[selector]
    if selector is not None and (program := shutil.which(selector)):
        return Browser("firefox" if "firefox" in Path(program).name.lower() else "chromium", program)
    here = f"installed: {', '.join(installed)}" if installed else "none is installed (Debian: apt-get install chromium)"
    raise NotRun(f"no browser {selector or ''} here; {here}; or open the page yourself with `device='browser:serve'`")
