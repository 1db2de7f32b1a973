"""A stand-in for `xcrun`, `xcodebuild` and `defaults`: a folder is the phone, and `launch` runs the real harness, built
on Linux.

The variable STAND_IN_PHONE names the folder: `settings.json` (where the harness is, and what is odd about the phone),
`core_ml.json` (what Core ML's stand-in does), `listing.json` (what `list devices` tells), `failures.json` (command ->
errors to give, the next one first; null: none this time), `Documents/` (the app's container), `calls.jsonl` (what was
called). Shapes of answers and errors are those that devicectl was seen to write.
"""

import json
import os
import plistlib
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NoReturn

PHONE = Path(os.environ["STAND_IN_PHONE"])


def main(program: str, arguments: list[str]) -> None:
    with (PHONE / "calls.jsonl").open("a", encoding="utf-8") as calls:
        calls.write(json.dumps([program, *arguments]) + "\n")
    if program == "xcodebuild":
        xcodebuild(arguments)
        return
    if program == "defaults":
        defaults(arguments)
        return
    if arguments[0] == "simctl":
        simctl(arguments[1:])
        return
    assert arguments[0] == "devicectl", arguments
    print("a table that nobody should parse | {} |")
    command = " ".join(takewhile_words(arguments[1:]))
    if command == settings().get("hangs"):
        time.sleep(600)
    failure = next_failure(command)
    if failure is not None:
        answer(arguments, {"error": failure, "info": {"outcome": "failed", "jsonVersion": 2}})
        sys.exit(1)
    # What takes longer than the limit that was given is abandoned as a failure.
    if settings().get("slow", {}).get(command, 0) > int(value(arguments, "--timeout")):
        fail(arguments, "com.apple.dt.CoreDeviceError", 1, "The operation timed out.")
    result = COMMANDS[command](arguments)
    answer(arguments, {"info": {"outcome": "success", "jsonVersion": 2}, "result": result})


def takewhile_words(words: list[str]) -> list[str]:
    """The command itself: its words before the first option or path."""
    for count in (4, 3, 2):
        command = " ".join(words[:count])
        if command in COMMANDS and not (command == AWAIT and settings().get("xcode", 27) < 27):
            return words[:count]
    print(f"Error: {len(words)} unexpected arguments: {words}", file=sys.stderr)
    sys.exit(64)  # and no JSON file: the words are not understood before anything is done


def value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def answer(arguments: list[str], document: dict[str, Any]) -> None:
    assert int(value(arguments, "--timeout")) >= 5, "devicectl takes no less"
    Path(value(arguments, "--json-output")).write_text(json.dumps(document), encoding="utf-8")


def next_failure(command: str) -> dict[str, Any] | None:
    file = PHONE / "failures.json"
    failures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    waiting = failures.get(command, [])
    if not waiting:
        return None
    failure, failures[command] = waiting[0], waiting[1:]
    file.write_text(json.dumps(failures), encoding="utf-8")
    return failure  # null: this time it works


def fail(arguments: list[str], domain: str, code: int, text: str) -> NoReturn:
    failure = {"code": code, "domain": domain, "userInfo": {"NSLocalizedDescription": {"string": text}}}
    answer(arguments, {"error": failure, "info": {"outcome": "failed", "jsonVersion": 2}})
    sys.exit(1)


def settings() -> dict[str, Any]:
    return json.loads((PHONE / "settings.json").read_text(encoding="utf-8"))


def list_devices(arguments: list[str]) -> dict[str, Any]:
    return json.loads((PHONE / "listing.json").read_text(encoding="utf-8"))


def lock_state(arguments: list[str]) -> dict[str, Any]:
    return {"deviceIdentifier": "ID", "passcodeRequired": settings().get("locked", False), "unlockedSinceBoot": True}


def install(arguments: list[str]) -> dict[str, Any]:
    app = Path(arguments[-1])
    assert (app / "bundle_id").is_file(), f"{app} is no app"
    shutil.copyfile(app / "bundle_id", PHONE / "installed")
    (PHONE / "Documents").mkdir(exist_ok=True)
    return {"installedApplications": [{"bundleID": (app / "bundle_id").read_text(encoding="utf-8")}]}


def container(arguments: list[str], remote: str) -> Path:
    assert value(arguments, "--domain-type") == "appDataContainer"
    check_installed(arguments, value(arguments, "--domain-identifier"))
    assert remote.startswith("Documents/"), remote
    assert ".." not in remote
    return PHONE / remote


def check_installed(arguments: list[str], bundle_id: str) -> None:
    installed = PHONE / "installed"
    if not installed.exists() or installed.read_text(encoding="utf-8") != bundle_id:
        fail(arguments, "NSOSStatusErrorDomain", -10814, "The app is not installed.")


def copy_to(arguments: list[str]) -> dict[str, Any]:
    source, target = Path(value(arguments, "--source")), container(arguments, value(arguments, "--destination"))
    assert not source.is_symlink(), "a link would arrive as a link"
    assert source.is_file(), "a folder's files arrive in place of the destination or inside it: who knows?"
    if not target.parent.is_dir():
        fail(arguments, "com.apple.dt.CoreDeviceError", 7001, f"{target.parent.name} is no folder on the device.")
    data = source.read_bytes()
    most = settings().get("breaks_copies_over")
    if most is not None and len(data) > most:
        target.write_bytes(data[:most])
        fail(arguments, "com.apple.dt.CoreDeviceError", 4, "The tunnel broke.")
    target.write_bytes(data)
    return {}


def copy_from(arguments: list[str]) -> dict[str, Any]:
    remote = value(arguments, "--source")
    source = container(arguments, remote)
    if not source.exists():
        fail(arguments, "com.apple.dt.CoreDeviceError", 7000, f"Failed to retrieve the file node for {remote}.")
    data = source.read_bytes()
    if any(remote.endswith(name) for name in settings().get("truncated", ())):
        data = data[: len(data) // 2]
    Path(value(arguments, "--destination")).write_bytes(data)
    return {}


def launch(arguments: list[str]) -> dict[str, Any]:
    bundle_id, dashes, *own = arguments[arguments.index("--") - 1 :]
    assert dashes == "--"
    check_installed(arguments, bundle_id)
    # Some versions of devicectl hand the dashes on to the app (FB13259837); so does this one.
    harness = [settings()["harness"], "--documents", str(PHONE / "Documents"), "--standing-in-for", "ios", dashes, *own]
    environment = os.environ | {"COREML_STAND_IN": str(PHONE / "core_ml.json")}
    with (PHONE / "app.log").open("a", encoding="utf-8") as log:
        app = subprocess.Popen(
            harness, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    if own[0] in ("--prepare", "--remove"):
        app.wait()
    (PHONE / "process").write_text(str(app.pid), encoding="utf-8")
    return {"process": {"processIdentifier": app.pid, "executable": "file:///MobileCLIPBench.app/MobileCLIPBench"}}


def processes(arguments: list[str]) -> dict[str, Any]:
    pid = int((PHONE / "process").read_text(encoding="utf-8"))
    return {"runningProcesses": [{"processIdentifier": 1}, *([{"processIdentifier": pid}] if alive(pid) else [])]}


def await_termination(arguments: list[str]) -> dict[str, Any]:
    pid, end = int(value(arguments, "--pid")), time.monotonic() + int(value(arguments, "--timeout"))
    while alive(pid):
        if time.monotonic() > end:
            fail(arguments, "com.apple.dt.CoreDeviceError", 1, "The operation timed out.")
        time.sleep(0.01)
    return {"process": {"processIdentifier": pid}}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def xcodebuild(arguments: list[str]) -> None:
    if arguments[:1] == ["-downloadPlatform"]:
        return
    assert Path(value(arguments, "-project"), "project.pbxproj").is_file()
    if "CODE_SIGNING_ALLOWED=NO" in arguments:
        unsigned(arguments)
        return
    if "-allowProvisioningDeviceRegistration" not in arguments:
        print("error: Device \"Jo's iPhone\" isn't registered in your developer account.")
        sys.exit(65)
    time.sleep(settings().get("xcodebuild_is_silent", 0))
    (PHONE / "builds").open("a").write("x")
    refusal = settings().get("xcodebuild_says")
    if refusal is not None and len((PHONE / "builds").read_text()) <= settings().get("xcodebuild_refuses", 9):
        print(f"note: Using codesigning identity override\n{refusal}")
        sys.exit(65)
    app = Path(value(arguments, "-derivedDataPath"), "Build/Products/Release-iphoneos/MobileCLIPBench.app")
    app.mkdir(parents=True, exist_ok=True)
    given = dict(argument.split("=", 1) for argument in arguments if argument.isupper() or "=" in argument)
    assert given["DEVELOPMENT_TEAM"]
    (app / "bundle_id").write_text(given["PRODUCT_BUNDLE_IDENTIFIER"], encoding="utf-8")


def unsigned(arguments: list[str]) -> None:
    """A build for devices or a simulator that signs nothing: the products of the scheme, without code."""
    project, name = Path(value(arguments, "-project")), value(arguments, "-scheme")
    file = project / "xcshareddata" / "xcschemes" / f"{name}.xcscheme"
    if not file.is_file():
        end(65, f'xcodebuild: error: The project named "{project.stem}" does not contain a scheme named "{name}".')
    scheme = ElementTree.parse(file)
    if arguments[-1] == "build-for-testing" and scheme.find("TestAction/Testables/TestableReference") is None:
        end(66, f"xcodebuild: error: Scheme {name} is not currently configured for the build-for-testing action.")
    assert arguments[-1] in ("build", "build-for-testing"), arguments
    if settings().get("xcodebuild_says") is not None:
        end(65, settings()["xcodebuild_says"])
    platform = {"generic/platform=iOS": "iphoneos", "platform=iOS Simulator,id=B": "iphonesimulator"}
    folder = f"{value(arguments, '-configuration')}-{platform[value(arguments, '-destination')]}"
    (product,) = {str(one.get("BuildableName")) for one in scheme.iterfind("BuildAction//BuildableReference")}
    app = Path(value(arguments, "-derivedDataPath"), "Build/Products", folder, product)
    app.mkdir(parents=True, exist_ok=True)
    given = dict(word.split("=", 1) for word in arguments if word.startswith("PRODUCT_BUNDLE_IDENTIFIER="))
    (app / "bundle_id").write_text(given.get("PRODUCT_BUNDLE_IDENTIFIER", "dev.mobileclip.bench"), encoding="utf-8")


def end(code: int, text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(code)


def simctl(arguments: list[str]) -> None:
    """Simulators, of which the iPhone is the phone's folder."""
    command, *words = arguments
    if command == "list":
        assert words == ["devices", "available", "--json"], words
        print(json.dumps({"devices": settings()["simulators"]}))
        return
    assert words[-1 if command in ("boot", "bootstatus") else 0 if command != "launch" else 1] == "B", words
    if command == "boot":
        end(149, "Unable to boot device in current state: Booted")
    elif command == "install":
        install(words)
    elif command == "launch":
        assert words[0] == "--console-pty", words
        assert words[2] == (PHONE / "installed").read_text(encoding="utf-8")
        harness = [
            settings()["harness"],
            "--documents",
            str(PHONE / "Documents"),
            "--standing-in-for",
            "ios",
            *words[3:],
        ]
        sys.exit(subprocess.run(harness, check=False).returncode)
    elif command == "get_app_container":
        assert words[1:] == [(PHONE / "installed").read_text(encoding="utf-8"), "data"], words
        print(PHONE)
    else:
        assert command == "bootstatus", arguments


def defaults(arguments: list[str]) -> None:
    assert arguments == ["export", "com.apple.dt.Xcode", "-"], arguments
    found = settings().get("xcode_settings")
    if found is None:
        print("Domain com.apple.dt.Xcode does not exist", file=sys.stderr)
        sys.exit(1)
    sys.stdout.buffer.write(plistlib.dumps(found))


AWAIT = "device process awaitTermination"
COMMANDS = {
    AWAIT: await_termination,
    "list devices": list_devices,
    "device info lockState": lock_state,
    "device info processes": processes,
    "device install app": install,
    "device copy to": copy_to,
    "device copy from": copy_from,
    "device process launch": launch,
}

if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main(Path(sys.argv[0]).name, sys.argv[1:])
