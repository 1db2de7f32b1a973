"""The app, built and signed by xcodebuild for one device."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.files import cache_folder

__all__ = ["App", "TEAM_VARIABLE", "build_app", "harness_sources", "signing_team"]


def harness_sources() -> Path:
    """The folder ios_harness: beside the modules in a wheel, at the top of the repository in a checkout.

    Raises:
        RuntimeFailed: this installation came without it.
    """
    package = Path(__file__).parents[2]
    for folder in (package / "ios_harness", package.parent / "ios_harness"):
        if (folder / "HarnessCore" / "Package.swift").is_file():
            return folder
    raise RuntimeFailed("the Swift harness is not part of this installation; install mobileclip-deploy from its wheel")


SCHEME = "MobileCLIPBench"
TEAM_VARIABLE = "MOBILECLIP_DEPLOY_TEAM"
SECONDS = 1200

# What xcodebuild writes -> what to do. The first that is found counts.
REMEDIES = (
    (r"agreed to the Xcode license", "type: sudo xcodebuild -license"),
    (
        r"iOS [0-9.]+ is not installed|platform.*is not installed",
        "install the platform: Xcode > Settings > Components, or type: xcodebuild -downloadPlatform iOS",
    ),
    (
        r"Program License Agreement|PLA Update available",
        "accept the agreement at developer.apple.com/account, signed in as the owner of team {team}",
    ),
    (
        r"(isn't|is not) registered in your developer account|team has no devices",
        "connect the device by cable so that Xcode can register it, or add its UDID at developer.apple.com/account",
    ),
    (r"No Accounts?\b", "sign in to team {team}: Xcode > Settings > Accounts"),
    (r"Unable to log in with account|session has expired", "sign in again: Xcode > Settings > Accounts"),
    (r"Developer Mode (is )?disabled", "on the device switch Settings > Privacy & Security > Developer Mode on"),
    (r"device is locked|Unlock .+ to continue", "unlock the device, and run the command again"),
    (r"No space left on device", "make room on this Mac's disk, and run the command again"),
    (r"No profiles for|provisioning profile", "is {team} your team, and may it sign apps? Xcode > Settings > Accounts"),
)


@dataclass(frozen=True)
class App:
    """A signed app on this computer's disk."""

    path: Path
    bundle_id: str


def signing_team(team: str | None) -> str:
    """The team that signs: the one given, else the environment's.

    Raises:
        RuntimeFailed: there is none, or it is no team id.
    """
    found = team or os.environ.get(TEAM_VARIABLE, "")
    if not found:
        raise RuntimeFailed(
            "no team to sign the app with; give the team id of your Apple account with `team`, or in "
            f"{TEAM_VARIABLE} (docs/iphone.md says where it stands)"
        )
    if not re.fullmatch(r"[A-Z0-9]{10}", found):
        raise RuntimeFailed(f"{found!r} is no team id: ten capital letters and digits, such as A1B2C3D4E5")
    return found


def build_app(udid: str, team: str) -> App:
    """Build for one device in the release configuration; what did not change is not built again.

    Raises:
        RuntimeFailed: no xcodebuild, or it failed; names its log.
    """
    products = cache_folder("ios-app")
    products.mkdir(parents=True, exist_ok=True)
    log = products / "xcodebuild.log"
    # Bundle ids are unique to a team: another team's registration of the same id would make signing fail.
    bundle_id = f"dev.mobileclip.bench.{team.lower()}"
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
        "-derivedDataPath",
        str(products),
        "-allowProvisioningUpdates",
        # Beside the former: without it a device that is new to the team is refused.
        "-allowProvisioningDeviceRegistration",
        f"DEVELOPMENT_TEAM={team}",
        f"PRODUCT_BUNDLE_IDENTIFIER={bundle_id}",
        "build",
    ]
    try:
        with log.open("w", encoding="utf-8") as stream:
            done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise RuntimeFailed(
            "there is no xcodebuild here; it needs a Mac with Xcode 16 or newer (docs/iphone.md)"
        ) from None
    except subprocess.TimeoutExpired:
        raise RuntimeFailed(f"xcodebuild did not end within {SECONDS // 60} minutes; its log: {log}") from None
    app = products / "Build" / "Products" / "Release-iphoneos" / f"{SCHEME}.app"
    if done.returncode != 0 or not app.is_dir():
        raise _refusal(log, done.returncode, team)
    return App(app, bundle_id)


def _refusal(log: Path, code: int, team: str) -> RuntimeFailed:
    """Why xcodebuild failed, and what to do: xcodebuild tells it in English sentences only."""
    text = log.read_text(encoding="utf-8", errors="replace")
    errors = [line.partition("error:")[2].strip() for line in text.splitlines() if "error:" in line]
    said = f": {errors[0]}" if errors else ""
    known = (remedy for pattern, remedy in REMEDIES if re.search(pattern, text, re.IGNORECASE))
    remedy = next(known, "read the log").format(team=team)
    return RuntimeFailed(f"xcodebuild could not build and sign the app (exit {code}{said}); {remedy}. Its log: {log}")
