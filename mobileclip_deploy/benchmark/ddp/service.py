"""Device Run, the service of Google's Developer Device Platform: its values and its errors.

Replies are those of the API `devicerun` v1alpha, which Google calls a preview.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError

from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import LongPath, Name, Prose
from mobileclip_deploy.benchmark.bounded import one_line
from mobileclip_deploy.errors import REASON, RuntimeFailed, reraising

R = TypeVar("R", bound="Reply")
PROVIDER: Literal["Google Developer Device Platform"] = "Google Developer Device Platform"
PRICES = "https://docs.cloud.google.com/developer-device-platform/pricing"
LOCATION = "global"
PROJECT_VARIABLE, BUCKET_VARIABLE = "GOOGLE_CLOUD_PROJECT", "MOBILECLIP_DDP_BUCKET"
MOST_PUSHED, NAME_BYTES = 50, 63
LEAST_SECONDS, MOST_SECONDS = 60, 10_800
"""Limits of the service: files to push, bytes of a name, and the time limit of a run."""
PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
SESSION, DEVICE = r"[a-z][a-z0-9-]{2,61}[a-z0-9]", r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"

# Pattern in an error of the service or of gcloud -> text of our error. The first pattern that matches counts.
FAULTS = (
    (
        r"invalid_grant|UNAUTHENTICATED|[Rr]eauthentication|active account|auth login|401",
        "gcloud is not signed in to Google Cloud; type: gcloud auth login",
    ),
    (
        r"SERVICE_DISABLED|has not been used in project|is disabled",
        "the project {project} has no Device Run API; type: gcloud services enable devicerun.googleapis.com "
        "--project={project}",
    ),
    (
        r"[Bb]illing",
        "the project {project} has no billing account, and rented phones cost money; link one: "
        "https://console.cloud.google.com/billing/linkedaccount?project={project}",
    ),
    (
        r"RESOURCE_EXHAUSTED|[Qq]uota",
        "the quota of the project {project} is used up ({detail}); wait, or raise it: "
        "https://console.cloud.google.com/iam-admin/quotas?project={project}",
    ),
    (
        r"[Bb]ucket.*(not exist|not found)|gs://\S+ not found|NoSuchBucket",
        "there is no bucket gs://{bucket}; type: gcloud storage buckets create gs://{bucket} --project={project}, or "
        f"name another in {BUCKET_VARIABLE}",
    ),
    (
        r"PERMISSION_DENIED|does not have (permission|storage)|403",
        "this account may not do that in the project {project} ({detail}); its owner has to grant the roles "
        "Device Run Admin and Storage Object User",
    ),
    (
        r"Invalid choice",
        "this gcloud is too old for rented phones; type: gcloud components update && gcloud components install beta",
    ),
)


class Unreachable(RuntimeFailed):
    """Error of a service that does not reply now, and may reply later."""


class Reply(BaseModel):
    """Base of the service's values. Fields that are not used here are dropped, since a preview adds some."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class CatalogDevice(Reply):
    """A model that can be rented, with one version of its system. `model_code`: Android's `ro.product.device`.

    `denied`: reasons why this project may not rent it.
    """

    name: Annotated[str, Field(pattern=rf"^projects/[^/]{{1,63}}/locations/[^/]{{1,63}}/devices/{DEVICE}$")]
    display_name: Name = Field("", validation_alias="displayName")
    model_code: Name = Field("", validation_alias="modelCode")
    os_version: Name = Field("", validation_alias="osVersion")
    platform: Name = ""
    hardware_type: Name = Field("", validation_alias="hardwareType")
    abis: tuple[Name, ...] = Field((), validation_alias=AliasPath("androidDetails", "supportedAbis"), max_length=20)
    denied: tuple[Name, ...] = Field((), validation_alias="accessDeniedReasons", max_length=20)

    @property
    def id(self) -> str:
        """Last part of the name, as in `--device ddp:ID`."""
        return self.name.rpartition("/")[2]

    @property
    def title(self) -> str:
        """Name for a reader, with the API level."""
        return one_line(f"{self.display_name or self.model_code}, Android API {self.os_version}", 200)

    @property
    def is_usable(self) -> bool:
        """True if it is Android, and this project may rent it."""
        return self.platform == "ANDROID" and not self.denied


class Devices(Reply):
    """The catalog."""

    devices: tuple[CatalogDevice, ...] = Field((), max_length=5000)


class OutputFile(Reply):
    """A file that came from the phone, in the bucket."""

    path: LongPath = Field("", validation_alias=AliasPath("gcsOutputFile", "path"))


class Execution(Reply):
    """One attempt at a job, on a phone without files of others."""

    output_files: tuple[OutputFile, ...] = Field((), validation_alias="outputFiles", max_length=1000)


class JobReport(Reply):
    """Report of a job. `result`: PASSED, FAILED, ERROR, TIMED_OUT or CANCELLED."""

    start_time: str = Field(validation_alias="startTime", pattern=r"^\d{4}-\d\d-\d\dT[0-9:.]{1,20}Z$")
    result: Name = Field("", validation_alias=AliasPath("result", "resultType"))
    reason: Prose = Field("", validation_alias=AliasPath("result", "cause", "summary", "message"))
    executions: tuple[Execution, ...] = Field((), validation_alias="executionReports", max_length=100)


class Session(Reply):
    """A session. `status`: DONE if nothing of it runs, or will run."""

    status: Name = Field("", validation_alias=AliasPath("sessionReport", "status", "statusType"))
    jobs: tuple[JobReport, ...] = Field((), validation_alias=AliasPath("sessionReport", "jobReports"), max_length=100)


class Started(Reply):
    """A session that runs, or has run: what a later process needs to find it."""

    session: Annotated[str, Field(pattern=f"^{SESSION}$")]
    device: Annotated[str, Field(pattern=f"^{DEVICE}$")]
    project: Annotated[str, Field(pattern=f"^{PROJECT.pattern}$")]
    seconds: Annotated[int, Field(ge=LEAST_SECONDS, le=MOST_SECONDS)]


@dataclass(frozen=True)
class Submission:
    """A job of one phone.

    Args:
        name: of the job; at most `NAME_BYTES`.
        device: identifier in the catalog.
        executable: object in the bucket that the phone runs.
        arguments: of the executable, without commas.
        pushed: path on the phone -> object in the bucket.
        pulled: files and folders of the phone that come back.
        seconds: time limit of the executable.
    """

    name: str
    device: str
    executable: str
    arguments: tuple[str, ...]
    pushed: Mapping[str, str]
    pulled: tuple[str, ...]
    seconds: int


def parsed(kind: type[R], content: bytes) -> R:
    """Returns a reply of the service.

    Raises:
        RuntimeFailed: it is not such a reply.
    """
    message = f"Google's Device Run sent an invalid reply ({REASON}); run again, and report it if that happens again"
    with reraising(message, ValidationError, into=RuntimeFailed):
        return parse_model(kind, content)
