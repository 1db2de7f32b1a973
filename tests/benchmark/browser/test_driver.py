"""The browser's driver: rounds judged here, pages that end, and a real Chromium."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark.android import tiny
from chromium import open_page
from command_line import run
from exports import Exports
from hostile.table import alarm
from programs import script

from mobileclip_deploy.base.pages import runtime
from mobileclip_deploy.base.pages.server import Answer, PageServer, serving
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.browser import driver as driving
from mobileclip_deploy.benchmark.browser.driver import BrowserDriver
from mobileclip_deploy.benchmark.browser.launching import BrowserProcess
from mobileclip_deploy.benchmark.browser.session import BrowserSession
from mobileclip_deploy.benchmark.documents import read_stream
from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.report.writing import html_page
from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed, UsageError

CACHE = Path(__file__).parents[3] / "build" / "onnxruntime_web"
PAGE = {
    "name": "Chromium",
    "version": "1.0",
    "engine": "Blink",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/1.0",
    "secure": True,
    "isolated": True,
    "clock_step_ns": 5000,
    "cores": 2,
}
# A page without a browser: what the driver makes of pages that end can be tested with it, and nothing is published.
STAND_IN = """
import base64, json, ssl, sys, urllib.request
import numpy as np
address, page, ends = sys.argv[1], sys.argv[2], sys.argv[3] == "ends"
origin = "/".join(address.split("/")[:3])
accepted = ssl._create_unverified_context()  # as a user accepts a certificate that only this machine has signed
def post(name, body=b""):
    asked = urllib.request.Request(address + name, data=body, headers={"Origin": origin}, method="POST")
    return json.loads(urllib.request.urlopen(asked, timeout=60, context=accepted).read())
post("hello", page.encode())
if sys.argv[3] == "says hello":
    sys.exit(0)
while not (task := post("next")).get("done"):
    if ends:
        sys.exit(0)
    cell, number = task["cell"], task["round"]
    sent = {"run_id": task["run"], "cell": cell["id"], "round": number, "status": "done", "samples_ns": [5, 5, 5]}
    if number == 0:
        weights = np.random.default_rng(7).standard_normal((192, 4)).astype(np.float32)
        inputs = address + "plan/" + cell["golden"]["inputs"]["file"]
        raw = urllib.request.urlopen(inputs, timeout=60, context=accepted).read()
        answers = np.frombuffer(raw, "<f4").reshape(2, -1) @ weights
        sent["answers"] = base64.b64encode(answers.tobytes()).decode()
    post("round", json.dumps(sent).encode())
"""


def plan(folder: Path, **options: Any) -> Plan:
    return tiny.plan(folder, ("onnxruntime-web",), backends=("wasm",), **options)


def session(folder: Path, **options: Any) -> tuple[Plan, BrowserSession]:
    """A plan, and its page that has said hello."""
    found = plan(folder / "job", **options)
    opened = BrowserSession(found, lambda done, cell: None)
    opened.hello(json.dumps(PAGE))
    return found, opened


def sent(task: dict[str, Any], **changes: Any) -> str:
    return json.dumps(
        {"run_id": task["run"], "cell": task["cell"]["id"], "round": task["round"], "status": "done"}
        | {"samples_ns": [7, 8, 9]}
        | changes
    )


RIGHT = tiny.right().decode()


def test_a_round_counts_when_its_answers_were_right(tmp_path: Path) -> None:
    found, page = session(tmp_path)
    page.round(sent(page.next(), answers=RIGHT))
    page.round(sent(page.next()))
    assert page.next() == {"done": True}
    assert page.finished.is_set()
    first, second = read_stream(found.stream, found.job)
    assert (first.status, first.golden.inputs, first.golden.passed, second.status) == ("done", 2, True, "done")
    assert first.answers is None


def test_a_page_brings_no_verdict_of_its_own_and_no_round_that_it_was_not_given(tmp_path: Path) -> None:
    found, page = session(tmp_path)
    task = page.next()
    for odd in ({"round": 1}, {"cell": "another"}, {"run_id": "another"}):
        with pytest.raises(InvalidInput, match="is not the current one"):
            page.round(sent(task, **odd))
    page.round(sent(task, golden={"inputs": 2, "cosine": 1.0, "relative": 0.0, "passed": True}))
    (kept,) = read_stream(found.stream, found.job)
    assert (kept.status, kept.error) == ("invalid", "the device returned no answers to the golden inputs")
    assert (kept.samples_ns, page.next()) == ((), {"done": True})
    for text in ("{", '{"name": 3}'):
        with pytest.raises(InvalidInput):
            page.hello(text)


def test_a_page_may_load_inputs_and_models_and_not_the_answers(tmp_path: Path) -> None:
    found, page = session(tmp_path)
    (tmp_path / "job/models/tiny/tiny.onnx.data").write_bytes(b"weights")
    assert set(found.files) == {"models/tiny/tiny.onnx", "models/tiny/tiny.onnx.data", "golden/inputs.bin"}
    assert page.next()["beside"] == ["models/tiny/tiny.onnx.data"]


def test_a_page_that_reloads_goes_on_and_one_that_ends_twice_in_a_round_ends_the_cell(tmp_path: Path) -> None:
    found, page = session(tmp_path, threads=(1, 2))
    first = page.next()
    assert page.next() == first  # loaded again: the same round from its beginning
    page.round(sent(first, answers=RIGHT))
    second = page.next()
    assert second["cell"]["threads"] == 2
    page.died("the browser ended")
    page.next()
    page.died("the browser ended")
    kept = read_stream(found.stream, found.job)
    assert [item.status for item in kept] == ["done", "failed"]
    assert kept[1].error == "the browser ended, 2 times in this round (out of memory?)"
    third = page.next()
    assert (third["cell"]["threads"], third["round"]) == (1, 1)


def test_what_takes_less_than_a_hundred_steps_of_the_clock_is_timed_several_times_at_once(
    require_tool: Callable[[str, str], str],
) -> None:
    node = require_tool("node", "apt-get install nodejs")
    script = (driving.PAGE / "sampling.js").read_text(encoding="utf-8")
    cases = [(20_000, 5_000), (499_999, 5_000), (500_000, 5_000), (30_000_000, 5_000), (0, 10**6), (3 * 10**6, 10**6)]
    calls = ", ".join(f"inferencesPerSample({inference}, {step})" for inference, step in cases)
    text = f"{script}\nconsole.log(JSON.stringify([{calls}]));"
    done = subprocess.run([node, "--input-type=module", "-e", text], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [25, 2, 1, 1, 100, 34]


class StandIn(BrowserProcess):
    """Runs the stand-in page. It begins as the lines of the file `program` say, one a start; then it goes on."""

    def start(self, address: str, profile: Path) -> subprocess.Popen[bytes]:
        lines = Path(self.program).read_text().splitlines()
        ends = lines[0] if lines else "goes on"
        Path(self.program).write_text("\n".join(lines[1:]))
        command = [sys.executable, "-c", STAND_IN, address, json.dumps(PAGE), ends]
        return subprocess.Popen(command, start_new_session=True)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[BrowserProcess], BrowserDriver]:
    """The driver on a given browser, without a runtime to serve."""

    def of(browser: BrowserProcess) -> BrowserDriver:
        monkeypatch.setattr(driving, "find_browser", lambda selector: browser)
        monkeypatch.setattr(driving, "runtime_folder", lambda progress: tmp_path)
        monkeypatch.setattr(driving, "FILES", {})
        monkeypatch.setattr(driving, "LOOK_SECONDS", 0.05)
        return BrowserDriver()

    return of


def test_a_browser_that_ends_is_started_again_and_no_round_is_lost(
    tmp_path: Path, started: Callable[[BrowserProcess], BrowserDriver]
) -> None:
    found = plan(tmp_path / "job")
    # Twice in a row it does not get as far as asking; a start that did so between them is no reason to give up.
    (tmp_path / "starts").write_text("says hello\nsays hello\nends\nsays hello\nsays hello")
    result = assemble(started(StandIn("chromium", str(tmp_path / "starts"))).run(found, silent))
    (cell,) = result.cells
    assert (cell.status, [item.samples_ns for item in cell.rounds]) == ("done", [(5, 5, 5), (5, 5, 5)])
    assert (tmp_path / "starts").read_text() == ""


def test_a_browser_that_ends_whenever_it_has_opened_the_page_is_given_up(
    tmp_path: Path, started: Callable[[BrowserProcess], BrowserDriver]
) -> None:
    (tmp_path / "starts").write_text("says hello\n" * 3)
    browser = StandIn("chromium", str(tmp_path / "starts"))
    said = rf"^{tmp_path}/starts opened the page and began no round, 3 times in a row: "
    with pytest.raises(RuntimeFailed, match=f"{said}check that it stays open when started by hand$"):
        started(browser).run(plan(tmp_path / "job"), silent)


def test_a_browser_that_does_not_start_says_so(
    tmp_path: Path, started: Callable[[BrowserProcess], BrowserDriver]
) -> None:
    with pytest.raises(
        RuntimeFailed, match=r"/bin/false did not open the page .it ended.: check that it starts by hand"
    ):
        started(BrowserProcess("chromium", "/bin/false")).run(plan(tmp_path / "job"), silent)
    program = script(tmp_path / "browser", "printf 'first\\n\\033[31mno display\\033[0m \\377\\n\\n' >&2")
    with pytest.raises(RuntimeFailed, match=r"[(]it ended, and its last line was: no display \ufffd[)]: "):
        started(BrowserProcess("chromium", str(program))).run(plan(tmp_path / "again"), silent)
    program.write_text("#!/bin/sh\necho '[1:FATAL:a.cc:3] Socket path too long' >&2; echo helper >&2\n")
    with pytest.raises(RuntimeFailed, match=r"last line was: \[1:FATAL:a\.cc:3\] Socket path too long\): "):
        started(BrowserProcess("chromium", str(program))).run(plan(tmp_path / "fatal"), silent)


@pytest.mark.parametrize("selector", ["serve", "lan"])
def test_serving_waits_for_whoever_opens_the_page(
    selector: str, tmp_path: Path, started: Callable[[BrowserProcess], BrowserDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = started(BrowserProcess("chromium", "/bin/false"))
    driver.selector = selector
    monkeypatch.setattr(driving, "local_address", lambda: "127.0.0.1")
    found, pages, before = plan(tmp_path / "job"), [], []

    def opening(_: str, line: str) -> None:
        before.append(line)
        if line.startswith("open http") and not pages:
            assert ("SHA-256" in "".join(before)) == line.startswith("open https://") == (selector == "lan")
            pages.append(
                subprocess.Popen([sys.executable, "-c", STAND_IN, line.split()[1], json.dumps(PAGE), "goes on"])
            )

    monkeypatch.setattr(driving.log, "warning", opening)
    result = assemble(driver.run(found, silent))
    assert pages[0].wait(60) == 0
    assert [cell.status for cell in result.cells] == ["done"]
    assert (result.device.name, result.device.os, result.device.architecture) == (
        "Chromium 1.0",
        "X11; Linux x86_64",
        "unknown",
    )


def test_a_page_that_is_hidden_or_silent_is_told_of_and_a_silent_one_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, opened = session(tmp_path / "job")
    monkeypatch.setattr(driving, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(driving, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(driving, "PATIENCE_SECONDS", 0.4)
    opened.hello(json.dumps(PAGE))
    opened.tell('{"hidden": true, "awake": false}')
    with pytest.raises(RuntimeFailed, match=r"sent nothing for 0\.4 s; open it again"):
        driving._wait_for_somebody(opened, "open it")
    words = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert words == ["open it", "the page is in the background, which slows it down", "the page sent nothing for 0.1 s"]


def test_a_page_that_is_open_and_whose_round_hangs_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, opened = session(tmp_path / "job")
    monkeypatch.setattr(driving, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(driving, "PATIENCE_SECONDS", 0.4)
    opened.hello(json.dumps(PAGE))
    opened.next()
    opened.round_seconds = 0.2
    over = threading.Event()

    def words() -> None:
        while not over.wait(0.05):
            opened.tell('{"hidden": false, "awake": true}')

    page = threading.Thread(target=words)
    page.start()
    try:
        with alarm(20), pytest.raises(RuntimeFailed, match=r"page is open, but its round did not end within 0\.4 s; "):
            driving._wait_for_somebody(opened, "open it")
    finally:
        over.set()
        page.join()


def test_the_page_says_that_it_cannot_keep_the_screen_awake(tmp_path: Path) -> None:
    _, opened = session(tmp_path / "job")
    opened.hello(json.dumps(PAGE))
    opened.tell('{"hidden": false, "awake": false}')
    assert "cannot keep the screen awake" in driving._notice(opened, 0)
    opened.tell('{"hidden": false, "awake": true}')
    assert driving._notice(opened, 0) == ""


@pytest.mark.slow  # a browser is started
def test_chromium_keeps_the_screen_awake_and_says_when_its_page_is_hidden() -> None:
    words: list[dict[str, bool]] = []
    over = threading.Event()
    posts: dict[str, Answer] = {
        "hello": lambda *_: {},
        "word": lambda _, body: words.append(json.loads(body)) or {},  # type: ignore[func-returns-value]
        "next": lambda *_: {"done": over.wait(60)},
    }
    files = {file.name: file for file in driving.PAGE.iterdir()}
    with serving(PageServer(files, posts)) as server, open_page() as page:
        page.visit(server.address)
        wait_until(lambda: {"hidden": False, "awake": True} in words)
        assert page.evaluate("document.getElementById('awake').hidden")
        page.hide()
        wait_until(lambda: words[-1] == {"hidden": True, "awake": False})
        page.show()
        wait_until(lambda: words[-1] == {"hidden": False, "awake": True})  # asked for again
        over.set()


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_devices_lists_browsers_that_are_installed_and_those_of_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lan = ("browser:lan", "ready")
    assert [(one.device, one.state) for one in BrowserDriver().discover()] == [("browser", "none installed"), lan]
    script(tmp_path / "firefox", "")
    assert [(one.device, one.state) for one in BrowserDriver().discover()] == [("browser:firefox", "ready"), lan]
    monkeypatch.setattr(driving, "NEEDED_BY_LAN", ("trustme", "not_installed_here"))
    assert BrowserDriver().discover()[-1].remedy == (
        "needs not_installed_here; type: pip install 'mobileclip-deploy[lan]'"
    )


def test_a_browsers_command_line_does_not_name_the_secret(tmp_path: Path) -> None:
    text = f'echo "$@" >{tmp_path}/words; for last; do :; done; cat "${{last#file://}}"'
    program, folder = script(tmp_path / "browser", text), tmp_path / "folder"
    folder.mkdir(mode=0o700)
    for family in ("chromium", "firefox"):
        own = folder / family
        own.mkdir()
        assert BrowserProcess(family, str(program)).start("http://127.0.0.1:1/s3cret/?a&b", own).wait(60) == 0
        assert "s3cret" not in (tmp_path / "words").read_text()
        assert "url=http://127.0.0.1:1/s3cret/?a&amp;b" in (own / "start.html").read_text()


def test_words_that_name_no_browser_or_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="no browser /nowhere/chrome here; "):
        BrowserDriver("/nowhere/chrome").run(plan(tmp_path / "job"), silent)
    assert [place.label for place in BrowserDriver().places("onnx", {})] == ["onnxruntime-web-wasm"]
    monkeypatch.setenv("MOBILECLIP_BROWSER_PLACES", "onnxruntime-web-webgpu")
    assert len(BrowserDriver().places("onnx", {})) == 2
    monkeypatch.setenv("MOBILECLIP_BROWSER_PLACES", "onnxruntime-web-jsep")
    with pytest.raises(UsageError, match="on browsers; known: onnxruntime-web-wasm, onnxruntime-web-webgpu"):
        BrowserDriver().places("onnx", {})
    monkeypatch.delenv("MOBILECLIP_BROWSER_PLACES")
    with pytest.raises(NotRun, match="coreml does not run on browsers: export onnx"):
        BrowserDriver().places("coreml", {})


def test_another_file_in_the_place_of_the_runtime_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOBILECLIP_ONNXRUNTIME_WEB", str(tmp_path))
    with pytest.raises(RuntimeFailed, match="is missing or not from onnxruntime-web"):
        runtime.runtime_folder(silent)
    monkeypatch.delenv("MOBILECLIP_ONNXRUNTIME_WEB")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:1")
    with pytest.raises(RuntimeFailed, match=r"install npm .*or unpack the npm package onnxruntime-web@"):
        runtime.runtime_folder(silent)


@pytest.mark.parametrize(
    ("family", "program", "engine"),
    [
        ("chromium", "chromium", "Blink"),
        # What is Firefox's own is how it is started and named: `devices` and its command line, above.
        pytest.param("firefox", "firefox-esr", "Gecko", marks=pytest.mark.slow),
    ],
)
def test_a_browser_measures_with_right_answers_and_tells_what_it_is(
    family: str,
    program: str,
    engine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    require_tool: Callable[[str, str], str],
) -> None:
    require_tool(program, f"apt-get install {program}")
    require_tool("npm", "apt-get install npm")
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))
    found = plan(tmp_path / "job", threads=(1, 2))
    result = assemble(BrowserDriver(family).run(found, silent))
    assert [cell.status for cell in result.cells] == ["done", "done"]
    for cell, threads in zip(result.cells, (1, 2), strict=True):
        assert (cell.golden.passed, cell.golden.inputs) == (True, 2)
        first = cell.rounds[0]
        assert first.threads_used == threads
        assert first.fetch_ns
        assert first.compile_ns
        assert first.inferences_per_sample
    browser = result.device.browser
    assert (browser.engine, browser.secure, browser.isolated) == (engine, True, True)
    assert any(text.startswith("browser: compare it only with results of browsers") for text in run_warnings(result))
    page = html_page([result], ())
    assert "compile, ms" in page
    assert "CPU, ms" not in page
    assert f"secure and isolated, clock in {browser.clock_step_ns / 1e3:g} us" in page


@pytest.mark.slow  # the driver runs it, above; test_host.py has the command line
def test_the_command_line_starts_chromium(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_tool: Callable[[str, str], str]
) -> None:
    require_tool("chromium", "apt-get install chromium")
    require_tool("npm", "apt-get install npm")
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))
    bundle, result = exports.bundle("onnx", "fp16").path, tmp_path / "result.json"
    # Chromium's socket has room for 107 characters, of which its own names take 45. pytest's folders are longer.
    monkeypatch.setattr(tempfile, "tempdir", tempfile.mkdtemp(prefix="as-on-some-clusters-"))
    found = run("benchmark", bundle, "--tower", "text", "--device", "browser:chromium", "--quick", "--json", result)
    assert (found.code, found.stderr.count("error")) == (0, 0), found.stderr
    Path(tempfile.gettempdir()).rmdir()
    (cell,) = json.loads(result.read_text())["cells"]
    assert (cell["status"], cell["golden"]["passed"]) == ("done", True)
