"""The contract of a target as a suite: `check_target` holds a target to it, ours as anybody's."""

from mobileclip_deploy.testing.conformance import check_target

__all__ = ["check_target"]
