"""The contract of a target as a test suite: `check_target` checks a target, ours or another package's."""

from mobileclip_deploy.testing.conformance import check_target

__all__ = ["check_target"]
