"""The stand-in for `gcloud` that standin.py installs: its commands, flags and messages; the sources are named there.

It refuses what gcloud refuses: a command or flag that is not there, to work without `gcloud auth login`, a missing
bucket, a time limit out of range. Its sessions are those of the stand-in service.
"""

import argparse
import json
import re
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn


def main() -> None:
    file, words = Path(sys.argv[1]), [word for word in sys.argv[2:] if word != "--quiet"]
    state = json.loads(file.read_text())
    commands = {
        ("auth", "login"): login,
        ("config", "get"): config_get,
        ("projects", "create"): create_project,
        ("billing", "projects"): link_billing,
        ("services", "enable"): enable,
        ("storage", "cp"): copy,
        ("storage", "cat"): cat,
        ("storage", "buckets"): create_bucket,
        ("beta", "device-run"): run,
    }
    command = commands.get((words[0], words[1]))
    if command is None:
        fail(f"(gcloud) Invalid choice: '{words[0]}'.", 2)
    if words[0] in ("storage", "beta") and not state["account"]:
        fail(
            f"({'.'.join(('gcloud', *words[:3]))}) You do not currently have an active account selected.\n"
            "Please run:\n\n  $ gcloud auth login\n\nto obtain new credentials."
        )
    command(state, words[2:])
    file.write_text(json.dumps(state))


def fail(message: str, code: int = 1) -> NoReturn:
    print(f"ERROR: {message}", file=sys.stderr)
    sys.exit(code)


def login(state: dict[str, Any], _: list[str]) -> None:
    state["account"] = True


def config_get(state: dict[str, Any], words: list[str]) -> None:
    if words != ["project"]:
        fail("(gcloud.config.get) Section [core] has no such property.")
    print(state["project"] or "(unset)", file=sys.stdout if state["project"] else sys.stderr)


def create_project(state: dict[str, Any], words: list[str]) -> None:
    if words[1:] != ["--set-as-default"]:
        fail(f"(gcloud.projects.create) unrecognized arguments: {words[1:]}", 2)
    state["project"] = words[0]


def link_billing(state: dict[str, Any], words: list[str]) -> None:
    if words[:2] != ["link", state["project"]] or not re.fullmatch(r"--billing-account=(\w{6}-){2}\w{6}", words[2]):
        fail("(gcloud.billing.projects.link) argument --billing-account: Must be specified.", 2)
    state["billing"] = True


def enable(state: dict[str, Any], words: list[str]) -> None:
    state["enabled"] = words == ["devicerun.googleapis.com"]


def create_bucket(state: dict[str, Any], words: list[str]) -> None:
    if words[0] != "create" or not words[1].startswith("gs://"):
        fail(f"(gcloud.storage.buckets) Invalid choice: '{words[0]}'.", 2)
    Path(state["bucket"]).mkdir(parents=True, exist_ok=True)


def copy(state: dict[str, Any], words: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--recursive", action="store_true")
    parser.add_argument("--no-clobber", action="store_true")
    parser.add_argument("places", nargs="+")
    chosen = parser.parse_args(words)
    *sources, target = chosen.places
    bucket = Path(state["bucket"])
    if target != f"gs://{bucket.name}/" or not bucket.is_dir():
        fail(f"(gcloud.storage.cp) {target.rstrip('/')} not found: 404.")
    for source in map(Path, sources):
        for file in sorted(source.rglob("*")):
            place = bucket / source.name / file.relative_to(source)
            if file.is_file() and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)


def cat(state: dict[str, Any], words: list[str]) -> None:
    bucket = Path(state["bucket"])
    file = bucket / words[0].removeprefix(f"gs://{bucket.name}/")
    if not file.is_file():
        fail(f"(gcloud.storage.cat) The following URLs matched no objects or files:\n{words[0]}")
    sys.stdout.buffer.write(file.read_bytes())


def run(state: dict[str, Any], words: list[str]) -> None:
    if not state["enabled"]:
        fail(f"(gcloud.beta.device-run) Device Run API has not been used in project {state['project']} before.")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", choices=["global"])
    parser.add_argument("--format")
    if words[:2] == ["devices", "list"]:
        parser.parse_args(words[2:])
        print(json.dumps(call(state, "GET", "devices")))
    elif words[:2] == ["sessions", "describe"]:
        parser.add_argument("session")
        parser.add_argument("--full", action="store_true", required=True)
        print(json.dumps(call(state, "GET", f"sessions/{parser.parse_args(words[2:]).session}")))
    elif words[:3] == ["sessions", "submit", "android-executable"]:
        submit(state, parser, words[3:])
    else:
        fail(f"(gcloud.beta.device-run) Invalid choice: '{words[0]}'.", 2)


def submit(state: dict[str, Any], parser: argparse.ArgumentParser, words: list[str]) -> None:
    for name in ("device", "executable", "executable-args", "executable-timeout", "other-files-to-push"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("paths-to-pull", "bucket-name", "labels"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--flaky-test-attempts", type=int)
    parser.add_argument("--async", action="store_true", required=True)
    chosen = parser.parse_args(words)
    command = "(gcloud.beta.device-run.sessions.submit.android-executable)"
    if "/" in chosen.bucket_name:
        fail(f"{command} Invalid value for [--bucket-name]: Must be a bucket name only")
    if not 60 <= int(chosen.executable_timeout.removesuffix("s")) <= 10_800:
        fail(f"{command} argument --executable-timeout: value must be from 1m to 3h", 2)
    if chosen.flaky_test_attempts < 1:
        fail(f"{command} Invalid value for [--flaky-test-attempts]: Must be at least 1.")
    if chosen.bucket_name != Path(state["bucket"]).name or not Path(state["bucket"]).is_dir():
        fail(f"{command} Bucket [gs://{chosen.bucket_name}] does not exist or is not accessible. Create it with:")
    if not state["billing"]:
        fail(f"{command} PERMISSION_DENIED: This API method requires billing.")
    job = {
        "device": chosen.device,
        "executable": chosen.executable,
        "arguments": chosen.executable_args.split(","),
        "pushed": dictionary(chosen.other_files_to_push),
        "pulled": chosen.paths_to_pull.split(","),
        "labels": dictionary(chosen.labels),
        "attempts": chosen.flaky_test_attempts,
    }
    session = call(state, "POST", "sessions", job)["name"].rpartition("/")[2]
    print(f"\nInitiated long-running operation [operation-{session}] to create session.", file=sys.stderr)
    print(f"Creating session [{session}] in location [global].", file=sys.stderr)
    print(
        f"Result files will be stored at [gs://{chosen.bucket_name}/automation/sessions/{session}/].", file=sys.stderr
    )


def dictionary(text: str) -> dict[str, str]:
    """A flag's items, divided by commas, each a key and a value, divided by the first = or space."""
    items = [re.fullmatch(r"([^= ]+)[= ](.*)", item) for item in text.split(",")]
    if not all(items):
        fail(f"(gcloud.beta.device-run) Bad syntax for dict arg: [{text}].", 2)
    return {item[1]: item[2] for item in items if item}


def call(state: dict[str, Any], method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{state['address']}/{path}", data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=150) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        found = json.load(error)["error"]
        reasons = "".join(f"\n- reason: {item['reason']}" for item in found["details"])
        fail(f"(gcloud.beta.device-run) {found['status']}: {found['message']}{reasons} (HTTPError {error.code})")


if __name__ == "__main__":
    main()
