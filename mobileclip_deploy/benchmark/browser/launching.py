"""Search for this machine's browsers, and start of a browser without a window, with its own profile."""

import html
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.benchmark.bounded import one_line
from mobileclip_deploy.errors import NotRun, uncoloured

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
# Only features that a user's page has too; but no window, no first-run pages, no sleep in the background.
CHROMIUM = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-dev-shm-usage",
    # On Linux WebGPU needs a flag. Without a GPU its adapter is software, which the result records.
    "--enable-unsafe-webgpu",
)
STDERR = "stderr"
LAST_BYTES = 4096
"""Number of last bytes of stderr that are searched for the last line."""
FIREFOX_SETTINGS = """\
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
user_pref("app.update.enabled", false);
user_pref("dom.webgpu.enabled", true);
"""


@dataclass(frozen=True)
class BrowserProcess:
    """A browser's program. `family` decides the command line: chromium or firefox."""

    family: str
    program: str

    def start(self, address: str, folder: Path) -> subprocess.Popen[bytes]:
        """Starts the browser on a page, in its own process group.

        The command line names a file that redirects to the address. Every user of this machine can read a command line,
        but not the file.

        Args:
            folder: an empty folder for the profile, for the browser's temporary files, and for its stderr
                (`last_words`). Its path should be short. The path of Chromium's socket is 45 characters longer, and
                may have 107.
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
    """Returns the last line of a browser's stderr, in at most 300 characters. Empty if there is none.

    Helpers of Chromium write lines after its reason to end (FATAL). Then the line with FATAL is returned.

    Args:
        folder: the folder that `BrowserProcess.start` got.
    """
    with (folder / STDERR).open("rb") as stderr:
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - LAST_BYTES))
        lines = uncoloured(stderr.read().decode(errors="replace")).split("\n")
    filled = [line.strip() for line in lines if line.strip()]
    return one_line(next((line for line in reversed(filled) if ":FATAL:" in line), filled[-1] if filled else ""), 300)


def installed_browsers() -> dict[str, BrowserProcess]:
    """Returns the first installed browser of each family, by the family's name."""
    programs = {family: next(filter(None, map(shutil.which, names)), None) for family, names in PROGRAMS.items()}
    return {family: BrowserProcess(family, program) for family, program in programs.items() if program is not None}


def find_browser(selector: str | None) -> BrowserProcess:
    """Returns the browser of a family or at a path. Returns the first installed browser if `selector` is None.

    Raises:
        NotRun: the browser is not installed; the error lists installed browsers, or names one to install.
    """
    installed = installed_browsers()
    if selector is None and installed:
        return next(iter(installed.values()))
    if selector in installed:
        return installed[selector]
    if selector is not None and (program := shutil.which(selector)):
        return BrowserProcess("firefox" if "firefox" in Path(program).name.lower() else "chromium", program)
    here = f"installed: {', '.join(installed)}" if installed else "none is installed (Debian: apt-get install chromium)"
    raise NotRun(f"no browser {selector or ''} here; {here}; or open the page yourself with `device='browser:serve'`")
