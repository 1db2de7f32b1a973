"""Build of the app for one device: built and signed by xcodebuild."""

import os
import plistlib
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclip_deploy.base.files import cache_folder
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.benchmark.bounded import one_line, parsing_device_output, run_bounded
from mobileclip_deploy.benchmark.ios.devicectl import DEVELOPER_MODE
from mobileclip_deploy.errors import RuntimeFailed


def harness_sources() -> Path:
    """Returns the folder ios_harness: next to the modules in a wheel, at the top of the repository in a checkout.

    Raises:
        RuntimeFailed: this installation does not contain the folder.
    """
    package = Path(__file__).parents[2]
    for folder in (package / "ios_harness", package.parent / "ios_harness"):
        if (folder / "HarnessCore" / "Package.swift").is_file():
            return folder
    raise RuntimeFailed("the Swift harness is not part of this installation; install mobileclip-deploy from its wheel")


SCHEME = "MobileCLIPBench"
TEAM_VARIABLE = "MOBILECLIP_DEPLOY_TEAM"
BUNDLE_VARIABLE = "MOBILECLIP_DEPLOY_BUNDLE_ID"
SECONDS = 1200
ASKING_SECONDS = 20
DESTINATION_SECONDS = 120
"""Longest wait of xcodebuild for a known device that is not ready; its default is 30 s."""
SILENCE_SECONDS = 60.0
WAITS = (
    "xcodebuild has printed nothing for a minute: check this Mac's screen for a keychain dialog (type the login "
    "password, choose Always Allow), or wait until Xcode has prepared the device"
)
BUSY = r"Device is busy|is busy: |may need to be unlocked to recover"
PAUSES = (15.0, 45.0)
"""Seconds before each new attempt after a busy device refused."""
TEAMS = ("IDEProvisioningTeamByIdentifier", "IDEProvisioningTeams")
"""Xcode's settings that name the teams of its accounts: of Xcode 16 and newer, and of older versions."""

# Pattern in xcodebuild's log -> remedy. The first pattern that matches counts.
REMEDIES = (
    (r"agreed to the Xcode license", "type: sudo xcodebuild -license"),
    (
        r"is a command line tools instance",
        "install Xcode, and type: sudo xcode-select -s /Applications/Xcode.app",
    ),
    (
        r"errSecInternalComponent",
        "the keychain is locked, as in an ssh session: type in this session: security unlock-keychain "
        "~/Library/Keychains/login.keychain-db, or run the command in a terminal on the Mac's own screen",
    ),
    (
        r"maximum App ID limit",
        "the team cannot register more app ids now (a free one has 10 in 7 days): wait, or sign with another team",
    ),
    (
        r"cannot be registered to your development team",
        "another team has this app id: name one of your own in " + BUNDLE_VARIABLE + ", as in com.example.bench",
    ),
    (BUSY, "the device is busy: unlock it, wait until Xcode > Window > Devices has prepared it, and run again"),
    (
        r"not supported by this version of Xcode|[Nn]o device support|newer (than|version of) .*Xcode",
        "the device's iOS is newer than this Xcode: update Xcode (App Store, or developer.apple.com/download)",
    ),
    (
        r"iOS [0-9.]+ (is|platform) not installed|platform.*is not installed",
        "install the platform: Xcode > Settings > Components, or type: xcodebuild -downloadPlatform iOS",
    ),
    (
        r"Program License Agreement|PLA Update available",
        "accept the agreement at developer.apple.com/account, signed in as the owner of team {team}",
    ),
    (
        r"(isn't|is not) registered in your developer account|team has no devices|no devices registered in your",
        "connect the device by cable so that Xcode can register it, or add its UDID at developer.apple.com/account",
    ),
    (r"No Accounts?\b", "sign in to team {team}: Xcode > Settings > Accounts"),
    (r"Unable to log in with account|session has expired", "sign in again: Xcode > Settings > Accounts"),
    (r"Developer Mode (is )?disabled", DEVELOPER_MODE),
    (r"device is locked|Unlock .+ to continue", "unlock the device, and run the command again"),
    (r"No space left on device", "make room on this Mac's disk, and run the command again"),
    (r"No profiles for|provisioning profile", "may {team} sign apps? See Xcode > Settings > Accounts"),
)


@dataclass(frozen=True)
class App:
    """A signed app on this computer's disk."""

    path: Path
    bundle_id: str


def signing_team(team: str | None) -> str:
    """Returns the team that signs: `team`, else the environment's, else the only team of Xcode's accounts.

    Raises:
        RuntimeFailed: Xcode knows no team or several, or the text is not a team id.
    """
    team_id = team or os.environ.get(TEAM_VARIABLE, "") or _only_team()
    if not re.fullmatch(r"[A-Z0-9]{10}", team_id):
        raise RuntimeFailed(f"{team_id!r} is not a team id: ten capital letters and digits, such as A1B2C3D4E5")
    return team_id


def _only_team() -> str:
    teams = _xcode_teams()
    if len(teams) == 1:
        return next(iter(teams))
    if teams:
        listed = " and ".join(f"{team_id} ({name})" for team_id, name in sorted(teams.items()))
        raise RuntimeFailed(f"Xcode's accounts have the teams {listed}: choose one with `team`, or in {TEAM_VARIABLE}")
    raise RuntimeFailed(
        "no team to sign the app with: sign in to an Apple account (a free one is enough) in "
        f"Xcode > Settings > Accounts, or give a team id with `team`, or in {TEAM_VARIABLE} (docs/devices.md)"
    )


def _xcode_teams() -> dict[str, str]:
    """Reads team id -> name of all teams of Xcode's accounts from Xcode's settings. Empty without Xcode.

    Each account has a list of teams with `teamID` and `teamName` (insidegui/WWDC#748 reads the same).
    """
    try:
        done = run_bounded(["defaults", "export", "com.apple.dt.Xcode", "-"], ASKING_SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return {}
    if done.returncode != 0:
        return {}
    with parsing_device_output("`defaults export com.apple.dt.Xcode -`"):
        settings: dict[str, Any] = plistlib.loads(done.stdout)
        key = next((name for name in TEAMS if settings.get(name)), TEAMS[0])
        teams = [team for account in settings.get(key, {}).values() for team in account]
        return {team["teamID"]: one_line(str(team.get("teamName", "no name")), 80) for team in teams}


def _bundle_id(team: str) -> str:
    # Bundle ids are unique to a team: another team's registration of the same id would make signing fail.
    bundle_id = os.environ.get(BUNDLE_VARIABLE) or f"dev.mobileclip.bench.{team.lower()}"
    if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", bundle_id):
        raise RuntimeFailed(f"{BUNDLE_VARIABLE}={bundle_id!r} is not a bundle id: words of letters, digits and dots")
    return bundle_id


def build_app(udid: str, team: str, progress: Progress = silent) -> App:
    """Builds the app for one device in the release configuration. xcodebuild reuses unchanged parts.

    Builds again after a pause if the device is busy.

    Args:
        progress: reports possible reasons of a wait while xcodebuild is silent.

    Raises:
        RuntimeFailed: xcodebuild is not installed, or it failed; the error names its log.
    """
    products = cache_folder("ios-app")
    products.mkdir(parents=True, exist_ok=True)
    log = products / "xcodebuild.log"
    bundle_id = _bundle_id(team)
    command = [
        "xcodebuild",
        "-project",
        str(harness_sources() / "App" / f"{SCHEME}.xcodeproj"),
        "-scheme",
        SCHEME,
        "-configuration",
        "Release",
        "-destination",
        f"platform=iOS,id={udid}",
        "-destination-timeout",
        str(DESTINATION_SECONDS),
        "-derivedDataPath",
        str(products),
        "-allowProvisioningUpdates",
        # In addition to the former: without it a device that is new to the team is refused.
        "-allowProvisioningDeviceRegistration",
        f"DEVELOPMENT_TEAM={team}",
        f"PRODUCT_BUNDLE_IDENTIFIER={bundle_id}",
        "build",
    ]
    for pause in (*PAUSES, None):
        code = _xcodebuild(command, log, progress)
        if code == 0 or pause is None or not re.search(BUSY, log.read_text(errors="replace")):
            break
        progress(f"the device is busy: trying again in {pause:.0f} s")
        time.sleep(pause)
    app = products / "Build" / "Products" / "Release-iphoneos" / f"{SCHEME}.app"
    if code != 0 or not app.is_dir():
        raise _refusal(log, code, team)
    return App(app, bundle_id)


def _xcodebuild(command: Sequence[str], log: Path, progress: Progress) -> int:
    """Runs xcodebuild with its output in `log`, and returns its exit code."""
    with log.open("w", encoding="utf-8") as stream:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            raise RuntimeFailed(
                "xcodebuild is missing; it needs a Mac with Xcode 16 or newer (docs/devices.md)"
            ) from None
    end, size = time.monotonic() + SECONDS, 0
    try:
        while (left := end - time.monotonic()) > 0:
            try:
                return process.wait(min(SILENCE_SECONDS, left))
            except subprocess.TimeoutExpired:
                before, size = size, log.stat().st_size
                if size == before:
                    progress(WAITS)
    finally:
        process.kill()
        process.wait()
    raise RuntimeFailed(f"xcodebuild did not end within {SECONDS // 60} minutes; its log: {log}")


def _refusal(log: Path, code: int, team: str) -> RuntimeFailed:
    """Returns the error with reason and remedy from the log. xcodebuild gives reasons in English sentences only."""
    text = log.read_text(encoding="utf-8", errors="replace")
    errors = [line.partition("error:")[2].strip() for line in text.splitlines() if "error:" in line]
    reason = f": {errors[0]}" if errors else ""
    remedies = (remedy for pattern, remedy in REMEDIES if re.search(pattern, text, re.IGNORECASE))
    remedy = next(remedies, "read the log").format(team=team)
    return RuntimeFailed(f"xcodebuild could not build and sign the app (exit {code}{reason}); {remedy}. Its log: {log}")
