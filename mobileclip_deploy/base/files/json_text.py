"""JSON texts in which no object has a key twice: otherwise one reader takes the first value, another the last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from mobileclip_deploy.errors import Malformed

if TYPE_CHECKING:
    from pydantic import BaseModel

M = TypeVar("M", bound="BaseModel")


class RepeatedKey(Malformed):
    """Error of a JSON text in which an object has a key twice."""

    def __init__(self, key: str) -> None:
        self.key = key[:80]  # it may come from an untrusted file
        super().__init__(f"{json.dumps(self.key)} is given twice")


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        RepeatedKey: an object has a key twice.
        ValueError: not JSON.
        RecursionError: nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique)


def parse_model(kind: type[M], text: str | bytes, *, strict: bool | None = None) -> M:
    """Returns a JSON text as a pydantic model.

    Raises:
        pydantic.ValidationError: not JSON, another document, or an object has a key twice.
    """
    from pydantic_core import PydanticCustomError, ValidationError  # slow to import; `--help` does not need it

    try:
        check_keys(text)
    except RepeatedKey as error:
        problem = PydanticCustomError("repeated_key", "given twice")
        raise ValidationError.from_exception_data(
            kind.__name__, [{"type": problem, "loc": (error.key,), "input": None}]
        ) from None
    return kind.model_validate_json(text, strict=strict)


def check_keys(text: str | bytes) -> None:
    """Refuses a JSON text in which an object has a key twice. A text that is not JSON passes: its reader refuses it.

    Raises:
        RepeatedKey: an object has a key twice.
    """
    try:
        parse_json(text)
    except RepeatedKey:
        raise
    except (ValueError, RecursionError):
        return


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedKey(next(name for name in names if names.count(name) > 1))
    return values
