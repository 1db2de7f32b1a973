"""What can be wrong with a package, an op or an input, beyond the package-wide error types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mobileclip_deploy.errors import InvalidInput

__all__ = ["InvalidInput", "UnsupportedOperation"]


class UnsupportedOperation(InvalidInput):
    """The program holds ops that this evaluator has no definition for.

    Attributes:
        operations: op type -> names of the operations of that type, in program order.
    """

    def __init__(self, operations: Mapping[str, Sequence[str]]) -> None:
        self.operations = {kind: tuple(names) for kind, names in operations.items()}
        listed = "; ".join(
            f"{kind} (at {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})"
            for kind, names in self.operations.items()
        )
        super().__init__(f"the program holds ops that the evaluator does not know: {listed}")
