"""Whatever goes wrong with a phone is one line with a remedy and exit code 3, and finished rounds are kept."""

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmark import documents
from benchmark.ios.phone_folder import LISTED, FolderPhone, IphoneBenchmark
from command_line import Outcome

from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.driver import RoundCounter
from mobileclip_deploy.benchmark.ios import building, devicectl, following
from mobileclip_deploy.benchmark.ios.devicectl import REMEDIES, TUNNEL, NoSuchRemoteFile, UnknownCommand, read_failure
from mobileclip_deploy.benchmark.ios.devices import parse_devices
from mobileclip_deploy.benchmark.ios.driver import IosDriver
from mobileclip_deploy.benchmark.ios.exchange import interrupted
from mobileclip_deploy.benchmark.ios.following import Patience
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import RoundResult
from mobileclip_deploy.errors import RuntimeFailed

pytestmark = pytest.mark.slow  # test_round_trip.py measures, and refuses wrong answers


def error(domain: str, code: int, text: str = "It failed.", cause: dict[str, Any] | None = None) -> dict[str, Any]:
    """An error as devicectl writes it."""
    information: dict[str, Any] = {"NSLocalizedDescription": {"string": text}}
    if cause is not None:
        information["NSUnderlyingError"] = {"error": cause}
    return {"code": code, "domain": domain, "userInfo": information}


CORE_DEVICE = "com.apple.dt.CoreDeviceError"
LOCKED = error(CORE_DEVICE, 10002, "The application failed to launch.", error("FBSOpenApplicationErrorDomain", 7))
MISSING = error(CORE_DEVICE, 10002, "The application failed to launch.", error("NSOSStatusErrorDomain", -10814))
UNTRUSTED = error(CORE_DEVICE, 10002, "The application failed to launch.", error("FBSOpenApplicationErrorDomain", 3))
BROKEN = error(CORE_DEVICE, 4, "The tunnel broke.", error("com.apple.dt.RemotePairingError", 4))


def refused(done: Outcome) -> str:
    assert done.code == 3, done
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.once
@pytest.mark.parametrize(
    ("failures", "remedy"),
    [
        ({"device_process_launch": [LOCKED]}, "unlock it"),
        ({"device_process_launch": [MISSING]}, "run the command again, which installs it"),
        ({"device_process_launch": [UNTRUSTED]}, "VPN & Device Management"),
        ({"device_install_app": [error(CORE_DEVICE, 3002)]}, "provisioning profile"),
        ({"device_copy_to": [BROKEN] * 9}, "plug the cable in again"),
        ({"device_copy_to": [error(CORE_DEVICE, 7001, cause=error("NSPOSIXErrorDomain", 28))]}, "the device is full"),
        (
            {"list_devices": [error("NSCocoaErrorDomain", 3840, "Nobody knows.")]},
            "Nobody knows (NSCocoaErrorDomain 3840)",
        ),
    ],
    ids=["locked", "app missing", "untrusted", "install", "tunnel", "full", "unknown"],
)
def test_a_refusal_of_the_phone_is_one_line(
    benchmark: IphoneBenchmark, phone: FolderPhone, failures: dict[str, Any], remedy: str
) -> None:
    phone.failures(**failures)
    assert remedy in refused(benchmark("--tower", "text"))
    assert not benchmark.output.exists()


def test_without_a_team_nothing_is_built(
    benchmark: IphoneBenchmark, phone: FolderPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(building.TEAM_VARIABLE)
    told = refused(benchmark())
    assert "--team" in told
    assert "no team to sign the app with: sign in to an Apple account" in told
    assert "ten capital letters" in refused(benchmark("--team", "me"))
    assert not [call for call in phone.calls() if call[0] == "xcodebuild"]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        # openglonmetal/MGL#77; forem/DEV-ios#34; fastlane/fastlane#20241
        (
            'error: No Account for Team "A1B2C3D4E5". Add a new account in Accounts settings',
            "sign in to team A1B2C3D4E5: Xcode > Settings > Accounts",
        ),
        (
            'error: No account for team "A1B2C3D4E5". Add a new account in the Accounts preference pane or verify that '
            "your accounts have valid credentials. (in target 'DEV')\n"
            "error: No profiles for 'dev.mobileclip.bench' were "
            "found: Xcode couldn't find any iOS App Development provisioning profiles matching 'dev.mobileclip.bench'.",
            "sign in to team A1B2C3D4E5",
        ),
        (
            "error: There are no accounts registered with Xcode. Add your developer account to Xcode",
            "sign in to team A1B2C3D4E5",
        ),
        # fastlane/fastlane#13779, flutter/flutter#32755
        (
            "Code Signing Error: The operation couldn't be completed. Unable to log in with account 'jo@example.com'. "
            "The login details for account 'jo@example.com' were rejected.",
            "sign in again: Xcode > Settings > Accounts",
        ),
        (
            'Error Domain=DVTPortalServiceErrorDomain Code=1100 "Your session has expired.  Please log in."',
            "sign in again: Xcode > Settings > Accounts",
        ),
        # openfoodfacts/smooth-app#6172 and #7482, heremaps/here-data-sdk-cpp#1708
        (
            "{ platform:iOS, name:Any iOS Device, error:iOS 18.2 is not installed. To use with Xcode, first download "
            "and install the platform }",
            "xcodebuild -downloadPlatform iOS",
        ),
        (
            "{ platform:iOS, name:Any iOS Device, error:iOS 26.0 is not installed. Please download and install the "
            "platform from Xcode > Settings > Components. }",
            "xcodebuild -downloadPlatform iOS",
        ),
        ("error: Jo's iPhone's iOS 27.1 is not supported by this version of Xcode.", "update Xcode"),
        ("error: iOS 26.1 Platform Not Installed.", "xcodebuild -downloadPlatform iOS"),
        ("You have not agreed to the Xcode license agreements.", "type: sudo xcodebuild -license"),
        ("error: PLA Update available: You do not have access.", "accept the agreement at developer.apple.com/account"),
        # callstack/agent-device#1527
        (
            "Error: The operation failed because Developer Mode is disabled.",
            "switch Settings > Privacy & Security > Developer Mode on",
        ),
        ('error: Device "X" isn\'t registered in your developer account.', "add its UDID"),
        # LoopKit/loopdocs#662, phamha98/hi#29
        (
            "error: Communication with Apple failed: Your team has no devices from which to generate a provisioning "
            "profile. Connect a device to use or manually add device IDs in Certificates, Identifiers & Profiles.",
            "connect the device by cable",
        ),
        (
            "error: Failed to create provisioning profile. There are no devices registered in your account on the "
            "developer website. Select a device run destination to have Xcode register it.",
            "connect the device by cable",
        ),
        # beeware/briefcase#377
        (
            'Code=-402652958 "Development cannot be enabled while your device is locked."',
            "unlock the device, and run the command again",
        ),
        # MicrosoftDocs/azure-devops-docs#6436
        (
            "error: No profiles for 'com.abc.xyz.dev' were found:  Xcode couldn't find any iOS App Development "
            "provisioning profiles matching 'com.abc.xyz.dev'.",
            "may A1B2C3D4E5 sign apps?",
        ),
        ("error: write: No space left on device", "make room on this Mac's disk"),
        # dotnet/macios#26183
        ("/tmp/build/Products/App.app: errSecInternalComponent", "security unlock-keychain ~/Library/Keychains/"),
        # dryark/ios_remote_provider#81
        (
            "error: Communication with Apple failed. Your maximum App ID limit has been reached. You may create up to "
            "10 App IDs every 7 days.",
            "wait, or sign with another team",
        ),
        # nanoscopic/stf_ios_support#102
        (
            'error: Failed to register bundle identifier: The app identifier "dev.mobileclip.bench.a1b2c3d4e5" cannot '
            "be registered to your development team because it is not available.",
            "name one of your own in MOBILECLIP_DEPLOY_BUNDLE_ID",
        ),
        # nodejs/node-gyp#569, and many more
        (
            "xcode-select: error: tool 'xcodebuild' requires Xcode, but active developer directory "
            "'/Library/Developer/CommandLineTools' is a command line tools instance",
            "sudo xcode-select -s /Applications/Xcode.app",
        ),
        # flutter/flutter#97574
        (
            "\t\t{ platform:iOS, id:1, name:Jo, error:Device is busy (Preparing the watch for development) }",
            "unlock it, wait until Xcode > Window > Devices has prepared it",
        ),
        ("error: Something that nobody has seen.", "read the log"),
    ],
)
def test_what_xcodebuild_refuses_names_what_to_do_and_the_log(mac: FolderPhone, said: str, remedy: str) -> None:
    mac.settings(xcodebuild_says=said)
    with pytest.raises(RuntimeFailed) as caught:
        building.build_app("UDID", "A1B2C3D4E5")
    assert remedy in str(caught.value)
    assert str(caught.value).endswith("xcodebuild.log")


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderPhone:
    """A Mac whose phone does nothing: its xcodebuild, and Xcode's settings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(building, "PAUSES", (0.01, 0.02))
    monkeypatch.delenv(building.TEAM_VARIABLE, raising=False)
    return FolderPhone(tmp_path / "phone", tmp_path / "no harness is needed").prepare(monkeypatch)


def test_a_device_that_is_busy_is_asked_again(mac: FolderPhone) -> None:
    mac.settings(xcodebuild_says="error:Device is busy (Preparing Jo's iPhone)", xcodebuild_refuses=2)
    told: list[str] = []
    assert building.build_app("UDID", "A1B2C3D4E5", told.append).path.is_dir()
    assert told == ["the device is busy: trying again in 0 s"] * 2
    assert all("-destination-timeout" in call for call in mac.calls())


def test_a_silent_xcodebuild_is_told_of_once_a_minute(mac: FolderPhone, monkeypatch: pytest.MonkeyPatch) -> None:
    mac.settings(xcodebuild_is_silent=0.5)
    monkeypatch.setattr(building, "SILENCE_SECONDS", 0.1)
    told: list[str] = []
    building.build_app("UDID", "A1B2C3D4E5", told.append)
    assert set(told) == {building.WAITS}
    assert "choose Always Allow" in told[0]


JO = {
    "teamID": "A1B2C3D4E5",
    "teamName": "Jo (Personal Team)",
    "teamType": "Personal Team",
    "isFreeProvisioningTeam": 1,
}
FIRM = {"teamID": "F1RMF1RMF1", "teamName": "The Firm", "isFreeProvisioningTeam": False}


@pytest.mark.parametrize("key", ["IDEProvisioningTeamByIdentifier", "IDEProvisioningTeams"])
def test_the_only_team_of_xcodes_accounts_signs(mac: FolderPhone, key: str) -> None:
    mac.settings(xcode_settings={key: {"9F2C": [JO], "second account": [JO]}})
    assert building.signing_team(None) == "A1B2C3D4E5"


def test_of_several_teams_one_has_to_be_named_and_settings_that_make_no_sense_are_one_line(mac: FolderPhone) -> None:
    mac.settings(xcode_settings={"IDEProvisioningTeamByIdentifier": {"9F2C": [FIRM, JO]}})
    several = re.escape("A1B2C3D4E5 (Jo (Personal Team)) and F1RMF1RMF1 (The Firm): choose one with `team`")
    with pytest.raises(RuntimeFailed, match=several):
        building.signing_team(None)
    assert building.signing_team("F1RMF1RMF1") == "F1RMF1RMF1"
    mac.settings(xcode_settings={"IDEProvisioningTeamByIdentifier": {"9F2C": [{"name": "no id"}]}})
    with pytest.raises(RuntimeFailed, match="invalid response from"):
        building.signing_team(None)


@pytest.mark.parametrize("settings", [{}, {"IDEProvisioningTeamByIdentifier": {}}])
def test_without_a_team_in_xcode_the_next_step_is_to_sign_in(mac: FolderPhone, settings: dict[str, Any]) -> None:
    mac.settings(xcode_settings=settings)
    with pytest.raises(RuntimeFailed, match="sign in to an Apple account"):
        building.signing_team(None)


def test_an_app_id_of_ones_own_signs_the_app(mac: FolderPhone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILECLIP_DEPLOY_BUNDLE_ID", "com.example.bench")
    assert building.build_app("UDID", "A1B2C3D4E5").bundle_id == "com.example.bench"
    monkeypatch.setenv("MOBILECLIP_DEPLOY_BUNDLE_ID", "bench; rm")
    with pytest.raises(RuntimeFailed, match="is not a bundle id"):
        building.build_app("UDID", "A1B2C3D4E5")


def test_a_connection_that_breaks_in_the_middle_of_a_copy_is_tried_again_and_one_that_comes_back_waited_for(
    benchmark: IphoneBenchmark, phone: FolderPhone
) -> None:
    timeout = error(CORE_DEVICE, 7000, "Failed to retrieve the file node.", error("NSPOSIXErrorDomain", 60))
    phone.failures(
        device_copy_to=[None, BROKEN, timeout],
        device_install_app=[timeout],
        device_process_launch=[BROKEN],
        device_info_processes=[BROKEN, BROKEN],
    )
    done = benchmark("--tower", "text")
    assert done.code == 0, done.stderr


def test_a_long_run_is_looked_at_when_it_can_be_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(following.time, "sleep", sleep)
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])

    class Watched:
        """A run of ten rounds that take 40 s each, by an Xcode that cannot wait for its end."""

        def wait(self, process: int, seconds: float) -> bool:
            raise UnknownCommand("awaitTermination")

        def is_running(self, process: int) -> bool:
            return True

        def pull(self, remote: str) -> bytes:
            turns = min(10, int(now[0] / 40))
            state = {"run_id": "r", "state": "finished" if turns == 10 else "running", "finished_turns": turns}
            return json.dumps(state | {"turn": {"cell": "c", "round": turns} if turns < 10 else None}).encode()

    for least, looks in ((30, [300, 3 * 300 / 7]), (0, [10, 10, 10, 10, 9 * 40])):
        now[0] = 0.0
        slept.clear()
        counter = RoundCounter(10, lambda text: None)
        job = SimpleNamespace(run_id="r", protocol=SimpleNamespace(least_seconds=least))
        plan = SimpleNamespace(job=job, outstanding=range(10))
        looked_at = following.follow(Watched(), 1, plan, counter, Patience())  # type: ignore[arg-type]
        assert slept == [pytest.approx(one) for one in looks]
        assert now[0] >= 400
        assert len(looked_at) <= len(looks) - 1


def test_an_xcode_that_can_wait_asks_nothing_of_the_phone_while_it_measures(
    benchmark: IphoneBenchmark, phone: FolderPhone
) -> None:
    assert benchmark("--tower", "text").code == 0
    commands = [" ".join(call[2:5]) for call in phone.calls() if call[0] == "xcrun"]
    run = max(number for number, command in enumerate(commands[:-1]) if command == "device process launch")
    assert [command.partition(" --")[0] for command in commands[run:]] == [
        "device process launch",
        "device process awaitTermination",
        "device info processes",
        "device copy from",
        "device copy from",
        "device copy from",
        "device process launch",
    ]
    assert {
        text for cell in read_result(benchmark.output).cells for text in cell.warnings if "looked at" in text
    } == set()


def test_a_devicectl_that_is_slow_is_waited_for_and_one_that_hangs_is_ended(
    benchmark: IphoneBenchmark, phone: FolderPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone.settings(slow={"device install app": 500, "device info processes": 70})  # of 600 s, and of 60
    assert "info processes failed: The operation timed out (com.apple.dt.CoreDeviceError 1)" in refused(benchmark())
    assert ["device", "install", "app"] in [call[2:5] for call in phone.calls()]
    phone.settings(hangs="list devices")
    monkeypatch.setattr(devicectl, "GRACE", 0.5 - devicectl.SECONDS)
    assert "devicectl list devices did not respond within 0.5 s; unplug the device" in refused(benchmark())


@pytest.mark.parametrize("option", [("--threads", "1,4"), ("--profile",)], ids=["threads", "profile"])
def test_what_core_ml_cannot_do_is_refused_at_once(
    benchmark: IphoneBenchmark, phone: FolderPhone, option: tuple[str, ...]
) -> None:
    done = benchmark(*option)
    assert done.code == 2
    assert f"leave {option[0]} out" in done.stderr
    assert not (phone.folder / "calls.jsonl").exists()


def test_a_locked_phone_is_seen_before_anything_is_built(benchmark: IphoneBenchmark, phone: FolderPhone) -> None:
    phone.settings(locked=True)
    assert "is locked; unlock it" in refused(benchmark())
    assert not [call for call in phone.calls() if call[0] == "xcodebuild"]


def test_what_is_kept_is_told(tmp_path: Path) -> None:
    plan = Plan(tmp_path, documents.job())
    assert str(interrupted(RuntimeFailed("It broke"), plan)) == "It broke (no round was finished yet)"
    plan.stream.write_text("one\ntwo\nthr", encoding="utf-8")
    assert str(interrupted(RuntimeFailed("It broke"), plan)) == "It broke (2 of 4 rounds are kept: add `resume=True`)"


def test_a_run_that_stands_still_is_given_up(
    benchmark: IphoneBenchmark, phone: FolderPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IosDriver, "patience", Patience(between=0.05, broken=0.5, still=0.3))
    phone.settings(xcode=26)
    phone.core_ml(answers=benchmark.answers, microseconds={"cpuOnly": 3_000_000})
    assert "has made no progress" in refused(benchmark("--tower", "text"))


def test_a_killed_app_keeps_its_rounds_and_goes_on(benchmark: IphoneBenchmark, phone: FolderPhone) -> None:
    phone.core_ml(answers=benchmark.answers, killAtInference=33)
    line = refused(benchmark("--tower", "text"))
    assert "the app ended on the device" in line
    assert "--resume" in line
    partial = benchmark.output.with_name("result.json.partial")
    (stream,) = partial.glob("*.rounds.jsonl")
    kept = stream.read_text(encoding="utf-8").splitlines()
    assert 0 < len(kept) < 8
    phone.core_ml(answers=benchmark.answers)
    done = benchmark("--tower", "text", "--resume")
    assert done.code == 0, done.stderr
    rounds = [item for cell in read_result(benchmark.output).cells for item in cell.rounds]
    assert len(rounds) == 8
    assert sum(item.model_dump_json(exclude_none=True) in map(normal, kept) for item in rounds) == len(kept)


def normal(line: str) -> str:
    return RoundResult.model_validate_json(line).model_dump_json(exclude_none=True)


def test_a_round_that_kills_the_app_each_time_is_given_up(benchmark: IphoneBenchmark, phone: FolderPhone) -> None:
    phone.core_ml(answers=benchmark.answers, killAtInference=33)
    refused(benchmark("--tower", "text"))
    (stream,) = benchmark.output.with_name("result.json.partial").glob("*.rounds.jsonl")
    kept = stream.read_text(encoding="utf-8").splitlines()
    phone.core_ml(answers=benchmark.answers, killAtInference=1)
    refused(benchmark("--tower", "text", "--resume"))
    phone.core_ml(answers=benchmark.answers)
    done = benchmark("--tower", "text", "--resume")
    assert done.code == 3
    cells = read_result(benchmark.output).cells
    assert sorted(cell.status for cell in cells) == ["done", "done", "done", "failed"]
    rounds = [item.model_dump_json(exclude_none=True) for cell in cells for item in cell.rounds]
    assert kept
    assert {normal(line) for line in kept} <= set(rounds)


def test_a_truncated_result_is_refused_and_fetched_anew(benchmark: IphoneBenchmark, phone: FolderPhone) -> None:
    phone.settings(truncated=[".run.json"])
    assert "--resume" in refused(benchmark("--tower", "text"))
    phone.settings()
    assert benchmark("--tower", "text", "--resume").code == 0


def test_the_innermost_known_cause_counts() -> None:
    assert str(read_failure(LOCKED, "device process launch")) == REMEDIES[("FBSOpenApplicationErrorDomain", 7)]
    assert read_failure(BROKEN, "device copy from").broken
    assert str(read_failure(BROKEN, "device copy from")) == TUNNEL
    assert isinstance(read_failure(error(CORE_DEVICE, 7000), "device copy from"), NoSuchRemoteFile)
    for code in (49, 60):  # dotnet/runtime#123796: "Can't assign requested address"; a passing timeout, no missing file
        passing = error(CORE_DEVICE, 7000, cause=error("NSPOSIXErrorDomain", code))
        assert read_failure(passing, "device copy from").broken
    # callstack/agent-device#1527: so says a device whose Developer Mode is off, though it is unlocked and paired.
    said = str(read_failure(error(CORE_DEVICE, 12040), "device process launch"))
    assert "Developer Mode on" in said
    assert "newer than this Xcode, update Xcode" in said
    assert not read_failure({}, "list devices").broken


def listed(**changes: dict[str, Any]) -> dict[str, Any]:
    device = copy.deepcopy(LISTED)
    for section, values in changes.items():
        device[section].update(values)
    return device


@pytest.mark.parametrize(
    ("device", "state", "remedy"),
    [
        (listed(), "ready", None),
        (listed(connectionProperties={"pairingState": "unpaired"}), "not paired", "tap Trust"),
        (listed(connectionProperties={"tunnelState": "unavailable"}), "disconnected", "cable"),
        (listed(deviceProperties={"developerModeStatus": "disabled"}), "in need of developer mode", "Developer Mode"),
        (listed(deviceProperties={"osVersionNumber": "16.7"}), "too old (iOS 16.7)", "iOS 17"),
    ],
    ids=["ready", "unpaired", "disconnected", "developer mode", "old"],
)
def test_every_state_says_what_to_do(device: dict[str, Any], state: str, remedy: str | None) -> None:
    (found,) = parse_devices({"devices": [device]})
    assert found.state == state
    assert found.remedy is None if remedy is None else remedy in str(found.remedy)


def test_watches_and_simulators_are_no_phones_and_the_newer_form_of_the_listing_is_read_too() -> None:
    watch = listed(hardwareProperties={"platform": "watchOS"})
    simulator = listed(hardwareProperties={"reality": "simulated"})
    assert parse_devices({"devices": [watch, simulator]}) == ()
    newer = {
        "identifier": "ID",
        "properties": {
            "connection": {"pairingState": "paired", "state": "connected", "transportType": "wired"},
            "hardware": {"marketingName": "iPhone 18 Pro", "platform": "iOS", "productType": "iPhone19,1", "udid": "U"},
            "software": {"osVersionNumber": {"components": [27, 0], "stringValue": "27.0"}},
            "state": {"name": "Jo's iPhone", "developerModeStatus": {"disabled": {}}},
        },
    }
    (found,) = parse_devices({"devices": [newer]})
    assert (found.udid, found.label) == ("U", "Jo's iPhone (iPhone 18 Pro, iOS 27.0)")
    assert found.state == "in need of developer mode"
