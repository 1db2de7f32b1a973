"""A file of which one field was changed: which instances are tried, and whether the change is seen."""

from typing import TypeVar

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets import Artifact
from mobileclip_deploy.targets.graph import first_difference

INSTANCES = 2
"""So many instances of a field are tried, spread over the file: all of them are seen, or the field is listed."""
Instance = TypeVar("Instance")


def spread(instances: list[Instance]) -> list[Instance]:
    return instances[:: max(len(instances) // INSTANCES, 1)][:INSTANCES]


def is_another(other: Artifact, own: Artifact) -> bool:
    """Whether a changed copy is refused, or declares or computes something else."""
    try:
        return first_difference(other.graph, own.graph) is not None or other.ports != own.ports
    except InvalidInput:
        return True
