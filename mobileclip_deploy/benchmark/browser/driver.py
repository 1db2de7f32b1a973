"""Driver of browsers. Serves the page, starts a browser or waits for a user's, and stores the rounds that it sends."""

import contextlib
import importlib.util
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.base.files.staging import system_temporary, temporary_folder
from mobileclip_deploy.base.interpreter import end_group
from mobileclip_deploy.base.pages.runtime import FILES, RUNTIME, VERSION, runtime_folder
from mobileclip_deploy.base.pages.server import Answer, PageServer, serving
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.browser.lan import ADDRESS, NEEDED_BY_LAN, code, local_address, own_certificate
from mobileclip_deploy.benchmark.browser.launching import BrowserProcess, find_browser, installed_browsers, last_words
from mobileclip_deploy.benchmark.browser.session import BrowserSession
from mobileclip_deploy.benchmark.driver import Driver, Listing, RoundCounter
from mobileclip_deploy.benchmark.host.machine import describe, snapshot
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Device, Environment, Harness, Run
from mobileclip_deploy.errors import NotRun, RuntimeFailed
from mobileclip_deploy.targets.values import RuntimePlace

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
SERVE, LAN = "serve", "lan"
PLACES = "MOBILECLIP_BROWSER_PLACES"
START_SECONDS = 120
"""Longest wait until a browser has loaded the page."""
PATIENCE_SECONDS = 900
"""Longest silence of a browser. Loading a large tower takes minutes in a browser; an inference never does."""
SILENT_SECONDS = 60
"""Silence after which a notice is shown. A page sends its state every 10 s, a hidden page once a minute."""
AGAIN = "open it again and repeat this with `resume`: finished rounds are kept"
LOOK_SECONDS = 0.5
IDLE_STARTS = 3
"""Number of starts in a row without a requested round, after which the run fails."""


class BrowserDriver(Driver):
    """Driver of a browser of this machine (`chromium`, `firefox`, a path), or of any browser that opens the page.

    With `serve` the page is for browsers of this machine, with `lan` for those of the local network.
    """

    kind = "browser"
    devices = "browsers"

    def discover(self) -> tuple[Listing, ...]:
        listings = tuple(
            Listing(f"browser:{browser.family}", browser.program, "ready") for browser in installed_browsers().values()
        )
        remedy = "install one (Debian: apt-get install chromium), or open the page in another: browser:serve"
        lacking = [name for name in NEEDED_BY_LAN if importlib.util.find_spec(name) is None]
        install = f"needs {' and '.join(lacking)}; type: pip install 'mobileclip-deploy[lan]'" if lacking else None
        name = "a phone's browser, or another computer's, in this network"
        lan = Listing(f"browser:{LAN}", name, "missing" if lacking else "ready", install)
        return (*(listings or (Listing("browser", "browsers", "none installed", remedy),)), lan)

    def places(self, target: str, options: dict[str, str]) -> tuple[RuntimePlace, ...]:
        named = [label for label in os.environ.get(PLACES, "").split(",") if label]
        return self._named_places(target, options, PLACES, named)

    def run(self, plan: Plan, progress: Progress) -> Run:
        if plan.profile:
            raise NotRun("operator times are not recorded in browsers: leave `profile` out")
        browser = None if self.selector in (SERVE, LAN) else find_browser(self.selector)
        runtime = runtime_folder(progress)
        before = plan.environment_before(snapshot)
        counter = RoundCounter(len(plan.job.order), progress)
        session = BrowserSession(plan, lambda done, cell: counter.tell(done, cell.label))
        files = {file.name: file for file in PAGE.iterdir()}
        files |= {f"runtime/{name}": runtime / name for name in FILES}
        files |= {f"plan/{name}": file for name, file in plan.files.items()}  # nothing else is served
        posts: dict[str, Answer] = {
            "hello": lambda _, body: session.hello(body.decode()),
            "word": lambda _, body: session.tell(body.decode()),
            "next": lambda _, __: session.next(),
            "round": lambda _, body: session.round(body.decode()),
        }
        if self.selector == LAN:
            host = local_address()
            issued = own_certificate(host)
            with serving(PageServer(files, posts, host=host, tls=issued.context)) as server:
                warning = (
                    f"The browser warns of an unknown certificate; this server's has the SHA-256 {issued.fingerprint}"
                )
                opening = f"open {server.address} in a browser of the same network"
                other = f"if {host} is a VPN's address that phones cannot reach, name another one in {ADDRESS}"
                _wait_for_somebody(session, *code(server.address).split("\n"), warning, other, opening)
        else:
            with serving(PageServer(files, posts)) as server:
                if browser is None:
                    port = f"tcp:{server.server_port}"
                    phone = f"on an Android phone after: adb reverse {port} {port}"
                    _wait_for_somebody(session, f"open {server.address} in a browser of this machine; {phone}")
                else:
                    _drive(browser, session, server.address)
        counter.tell(len(plan.job.order), "done")
        harness = Harness.own("browser")
        device = _device(session, local=browser is not None)
        return plan.record(device, harness, {RUNTIME: VERSION}, Environment(before=before, after=snapshot()))


def _drive(browser: BrowserProcess, session: BrowserSession, address: str) -> None:
    """Starts the browser, and again whenever it ends before the job does.

    Raises:
        RuntimeFailed: the browser does not open the page, or ends `IDLE_STARTS` times before it begins a round.
    """
    idle = 0
    while not session.finished.is_set():
        given_before = session.given
        with _started(browser, address) as (process, folder):
            patience = START_SECONDS if session.browser is None else PATIENCE_SECONDS
            while not session.finished.is_set():
                waited = 0.0
                while not session.heard.wait(LOOK_SECONDS) and process.poll() is None and waited < patience:
                    waited += LOOK_SECONDS
                if session.heard.is_set():
                    session.heard.clear()
                    patience = PATIENCE_SECONDS
                    continue
                if session.browser is None:
                    why = "it ended" if process.poll() is not None else f"within {START_SECONDS} s"
                    words = last_words(folder)
                    detail = f", and its last line was: {words}" if words else ""
                    raise RuntimeFailed(
                        f"{browser.program} did not open the page ({why}{detail}): check that it starts by hand and "
                        f"may read {system_temporary()} (a snap may not: set TMPDIR to a folder in your home)"
                    )
                session.died("the browser ended" if process.poll() is not None else f"no response within {patience} s")
                break
        idle = idle + 1 if session.given == given_before else 0
        if idle == IDLE_STARTS and not session.finished.is_set():
            raise RuntimeFailed(
                f"{browser.program} opened the page and began no round, {IDLE_STARTS} times in a row: check that it "
                "stays open when started by hand"
            )


def _wait_for_somebody(session: BrowserSession, *invitation: str) -> None:
    """Waits for a user to open the page, until the job ends. Logs a notice when the page is hidden or silent.

    Raises:
        RuntimeFailed: a page was opened, and has been silent for `PATIENCE_SECONDS`, or its round does not end.
    """
    for line in invitation:
        log.warning("%s", line)  # a warning, since `quiet` hides progress, and the user needs the address
    notice = ""
    while not session.finished.wait(LOOK_SECONDS):
        silent, limit = time.monotonic() - session.last_word, max(PATIENCE_SECONDS, session.round_seconds)
        if session.browser is not None and silent > PATIENCE_SECONDS:
            raise RuntimeFailed(f"the page sent nothing for {PATIENCE_SECONDS} s; {AGAIN}")
        if session.browser is not None and time.monotonic() - session.last_step > limit:
            raise RuntimeFailed(f"the page is open, but its round did not end within {limit:g} s; {AGAIN}")
        before, notice = notice, _notice(session, silent)
        if notice and notice != before:
            log.warning("%s", notice)


def _notice(session: BrowserSession, silent: float) -> str:
    """Returns advice for the user of the page. Empty if there is no advice."""
    if session.browser is None:
        return ""
    if silent > SILENT_SECONDS:
        return (
            f"the page sent nothing for {SILENT_SECONDS} s: unlock the device's screen and bring the page to the "
            "front; the run then continues"
        )
    if session.word and session.word.hidden:
        return "the page is in the background, which slows it down: bring it to the front"
    if session.word and not session.word.awake:
        return "the browser cannot keep the screen awake: keep the page in front, and switch off the screen lock"
    return ""


@contextlib.contextmanager
def _started(browser: BrowserProcess, address: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Yields a started browser and its folder. Ends its process group, and removes the folder."""
    with temporary_folder() as folder:
        process = browser.start(address, folder)
        try:
            yield process, folder
        finally:
            end_group(process, force=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            # The browser's helpers may end after it, and would write to the removed folder.
            end_group(process, force=True)
            process.wait()


def _device(session: BrowserSession, local: bool) -> Device:
    """Returns the browser as a device, with this machine's description if `local`.

    A page may be opened on another machine, which is then mostly unknown.
    """
    browser = session.browser
    if browser is None:  # all rounds were finished before
        raise RuntimeFailed("no browser opened the page")
    name = f"{browser.name} {browser.version}"
    if local:
        machine = describe()
        return with_fields(machine, kind="browser", name=name, browser=browser)
    return Device(
        kind="browser",
        simulated=False,
        name=name,
        model=name,
        architecture="unknown",
        os=browser.user_agent.partition("(")[2].partition(")")[0] or "unknown",
        os_version="",
        cores=browser.cores,
        browser=browser,
    )
