"""Errors of the package. The command line prints each as one line on stderr and ends with its exit code."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
"""Codes of a terminal: colours, moves of the cursor."""
SOURCE_PLACE = re.compile(r"[^\s:]*/onnxruntime/\S+:\d+ (?:[^()]*\([^()]*\)(?: const)? )?")
"""Place in ONNX Runtime's source, and the function there, in its messages."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONG_PATH = 260
"""Length from which Windows refuses a path, unless LongPathsEnabled is set."""
LONGEST_LINE = 2000


class MobileClipDeployError(Exception):
    """Base of every expected error. Its text is one line that ends with what to do.

    Attributes:
        exit_code: exit code of the command line.
        kind: name of the error in JSON.
        results: result or failure of each bundle of an export, in the order of the request; empty for other errors.
    """

    exit_code: ClassVar[int] = 2
    kind: ClassVar[str] = "error"
    results: tuple[Any, ...] = ()

    def __init_subclass__(cls) -> None:
        if "kind" not in vars(cls):
            cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def line(self) -> str:
        """Text in one line of at most `LONGEST_LINE` characters. A longer one loses its middle, not its end."""
        line = " ".join(str(self).split())
        if len(line) <= LONGEST_LINE:
            return line
        end = line[-LONGEST_LINE // 4 :]
        return f"{line[: LONGEST_LINE - len(end) - 5]} ... {end}"

    @property
    def remedy(self) -> str | None:
        """Text after the last semicolon, which says what to do. None without one."""
        return self.line.rpartition("; ")[2] if "; " in self.line else None

    def as_dict(self) -> dict[str, str | int | None]:
        """Returns the error for JSON."""
        return {"kind": self.kind, "message": self.line, "remedy": self.remedy, "exit_code": self.exit_code}


SEVERITY = (70, 2, 1, 3, 4)
"""Exit codes from the worst: crashed, refused, failed, not run, undecided."""


def severity(error: MobileClipDeployError) -> int:
    """Returns the sort key of an error; the worst error has the smallest."""
    return SEVERITY.index(error.exit_code) if error.exit_code in SEVERITY else len(SEVERITY)


class UsageError(MobileClipDeployError):
    """Raised for an unknown or impossible option or argument, or a combination of them."""


class InvalidInput(MobileClipDeployError):
    """Raised if a file, folder or value of the user cannot be used."""


class Malformed(ValueError):
    """Raised if a part of a file violates its format. The reader of the file adds the text to the file's name."""


class Unread(Malformed):
    """Raised if a part of a file may be valid, and no reader here knows its form."""


class CheckpointError(InvalidInput):
    """Raised if a checkpoint cannot be read, has an unknown layout, or does not fit the variant."""


class DiskFull(InvalidInput):
    """Raised if the disk has no space for the output."""

    def __init__(self, place: str) -> None:
        super().__init__(f"no room is left on the disk of {place}; make room there, or choose another place")


class FoldingError(MobileClipDeployError):
    """Raised if a fold's precondition or postcondition does not hold (training mode, half-folded, output changed)."""


class ExportError(MobileClipDeployError):
    """Raised if a converter fails, or if the output of an export stage deviates from the previous stage's."""

    exit_code = 3


class GateFailed(MobileClipDeployError):
    """Raised if an artifact deviates from the checkpoint more than its gate allows."""

    exit_code = 1


class Undecided(MobileClipDeployError):
    """Raised if no gate failed, but the dataset is too small to decide one."""

    exit_code = 4


class DependencyMissing(MobileClipDeployError):
    """Raised if an optional package is not installed, or is broken; the text has the pip command that installs it."""


def import_optional(module: str, install: str) -> Any:
    """Imports a module of an optional package.

    Args:
        install: argument of `pip install`, such as "mobileclip-deploy[hub]".

    Raises:
        DependencyMissing: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise DependencyMissing(f"{package} is not installed; type: pip install '{install}'") from error
        problem, repair = f"{package} cannot be imported ({first_sentence(error)})", "pip install --force-reinstall"
        raise DependencyMissing(f"{problem}; type: {repair} '{install}'") from error


class ExtraMissing(DependencyMissing):
    """Raised if a module is not installed that an extra of this package brings."""

    exit_code = 3


EXTRAS = {
    "torch": "torch",
    "open_clip": "captions",
    "onnx": "onnx",
    "onnxruntime": "onnx-run",
    "onnxscript": "onnx",
}
"""Extra of this package that brings a module."""


def missing_extra(error: ModuleNotFoundError) -> ExtraMissing | None:
    """Returns the error for a module that an extra brings. None for other modules."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    return ExtraMissing(
        f"this needs {module}, which is not installed; type: pip install 'mobileclip-deploy[{EXTRAS[module]}]'"
    )


class RuntimeFailed(MobileClipDeployError):
    """Raised if a runtime or device is missing, or fails while it runs an artifact."""

    exit_code = 3


class NotRun(RuntimeFailed):
    """Raised if a check cannot run here. It is reported as not run, never as passed."""


def listed(names: Iterable[str], most: int = 10) -> str:
    """Returns the first names and the number of further ones, since a stranger's file can have thousands."""
    every = [name[:80] for name in names]
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


LITTLE_MEMORY = "there is not enough memory; end other programs, or raise the limit (`ulimit -v`)"
MEMORY = ("Cannot allocate memory", "failed to map segment", "DefaultCPUAllocator", "std::bad_alloc")
ONEDNN = "could not create a primitive"
"""Only message of oneDNN if memory is limited."""


def no_memory(error: BaseException) -> bool:
    """Returns whether an error or one of its causes means that memory is exhausted."""
    words = (*MEMORY, ONEDNN) if _memory_is_limited() else MEMORY
    return any(
        isinstance(one, MemoryError)
        or getattr(one, "errno", None) == errno.ENOMEM
        or any(text in str(one) for text in words)
        for one in causes(error)
    )


def _memory_is_limited() -> bool:
    if sys.platform == "win32":
        return False
    import resource  # not on Windows

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


class InternalError(MobileClipDeployError):
    """Raised for an exception that the package did not expect, a mistake of its own. It is no verdict on the input."""

    exit_code = 70


def no_room(error: BaseException) -> bool:
    """Returns whether an error or one of its causes means that a disk, a quota or a file size limit is full."""
    full = [os.strerror(number) for number in FULL]  # errors of libraries in other languages have the text alone
    return any(getattr(e, "errno", None) in FULL or any(text in str(e) for text in full) for e in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the error, then its cause, and so on."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def from_os_error(error: OSError) -> MobileClipDeployError:
    """Returns the message of an OSError in one line, with its file."""
    if no_room(error):
        return DiskFull(str(error.filename or "the output"))
    if no_memory(error):
        return RuntimeFailed(LITTLE_MEMORY)
    if sys.platform == "win32" and len(str(error.filename or "")) >= LONG_PATH:
        problem = f"{error.filename} is a path of more than {LONG_PATH - 1} characters"
        return RuntimeFailed(f"{problem}; choose a shorter one, or switch on LongPathsEnabled in Windows")
    return RuntimeFailed(f"{error.filename or 'input/output'}: {error.strerror or error}")


def uncoloured(text: str) -> str:
    """Removes a terminal's codes for colours and cursor moves from a program's output."""
    return CODES.sub("", text)


def first_sentence(error: BaseException, most: int = 300) -> str:
    """Returns the first sentence of a foreign exception, without colours, places of source and advice, in at most
    `most` characters. Without a text it is the exception's type."""
    line = SOURCE_PLACE.sub("", (uncoloured(str(error)).strip().splitlines() or [type(error).__name__])[0])
    return line.partition(". ")[0].strip().removesuffix(".")[:most]


def readable_reason(error: BaseException) -> str:
    """Returns a readable reason why a file or a value cannot be used. Exceptions of Python, the system and other
    packages are reworded for users; the text of this package's own errors stays."""
    from pydantic_core import ValidationError  # not where a command only says its options

    if isinstance(error, Malformed | MobileClipDeployError):
        return " ".join(str(error).split())
    if isinstance(error, ValidationError):
        return first_problem(error)
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1:,} is not valid UTF-8"
    if isinstance(error, OSError) and error.errno:
        return SYSTEM.get(error.errno) or error.strerror or DAMAGED
    if isinstance(error, KeyError):
        return f"{error.args[0] if error.args else 'a part'} is missing"
    if isinstance(error, ValueError) and "integer string conversion" in str(error):
        return "a number of too many digits"
    if isinstance(error, re.error):
        return f"not a valid regular expression, from character {(error.pos or 0) + 1}"
    if str(error).startswith(TWICE):
        return "a duplicate name" + _place(error)
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((KINDS[name] for name in names if name in KINDS), DAMAGED) + _place(error)


def _place(error: BaseException) -> str:
    """Returns the line and column that a YAML or TOML parser reports."""
    mark = getattr(error, "problem_mark", None)
    at = re.search(r"at line (\d+), column (\d+)\)$", str(error))
    line, column = (mark.line + 1, mark.column + 1) if mark else at.groups() if at else ("", "")
    return f" at line {line}, column {column}" if line else ""


REASON = "\0"
"""Placeholder for the reason in an error text. NUL, because no file name can contain it."""


@contextlib.contextmanager
def reraising(what: str, *kinds: type[Exception], into: Callable[[str], Exception] = InvalidInput) -> Iterator[None]:
    """Context manager that re-raises these exceptions as `InvalidInput` with a readable reason.

    Args:
        what: text of the error. The reason replaces `REASON`; without `REASON` it follows a colon.
        into: type of the raised error.

    Raises:
        InvalidInput: `what`, with the reason.
    """
    try:
        yield
    except kinds as error:
        text = what if REASON in what else f"{what}: {REASON}"
        raise into(text.replace(REASON, readable_reason(error))) from error


@contextlib.contextmanager
def wrapping_runtime_errors(what: str) -> Iterator[None]:
    """Context manager around a call of a runtime, whose exceptions have no common base. The package's own errors pass.

    Args:
        what: first part of the error's text, such as the runtime and its file.

    Raises:
        RuntimeFailed: `what`, a colon, and the first sentence of the runtime's message.
    """
    try:
        yield
    except MobileClipDeployError:
        raise
    except Exception as error:
        raise RuntimeFailed(f"{what}: {first_sentence(error)}") from error


DAMAGED = "truncated, damaged or of another format"
TWICE = ("Cannot overwrite", "Cannot declare")
"""Messages of tomllib for a duplicate name."""
KINDS = {
    "RecursionError": "nested too deeply",
    "MemoryError": "it needs more memory than available",
    "OverflowError": "a number that is too large",
    **dict.fromkeys(("TOMLDecodeError", "YAMLError"), "unreadable"),
    **dict.fromkeys(("TypeError", "AttributeError", "IndexError"), "its structure is not valid"),
}
"""Reasons by the name of an exception's type, so that other packages need not be imported."""


SYSTEM = {
    errno.ENOENT: "there is none",
    errno.EISDIR: "a folder, not a file",
    errno.ENOTDIR: "a file stands where a folder has to be",
    errno.EACCES: "it may not be read",
    errno.EPERM: "it may not be read",
    errno.ELOOP: "a circular link",
    errno.ENAMETOOLONG: "name too long",
}
"""Reasons for the most frequent errors of the system."""


def first_problem(error: ValidationError) -> str:
    """Returns the first problem of a validation error in one line: its field, and the reason."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:80] for part in first["loc"])  # a part may be a name that a stranger wrote
    return f"{place}: {problem(first)}" if place else problem(first)


def problem(details: ErrorDetails) -> str:
    """Returns a problem of a validation error as a readable reason."""
    template, context = PROBLEMS.get(details["type"]), details.get("ctx", {})
    shown = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in context.items()}
    if details["type"] == "json_invalid":
        message = str(context.get("error"))
        known = {"recursion": "nested too deeply", "out of range": "a number of too many digits"}
        what = next((words for part, words in known.items() if part in message), "invalid JSON")
        at = re.search(r"line (\d+) column (\d+)", message)
        return what if at is None else f"{what}, at line {at[1]}, column {at[2]}"
    return details["msg"] if template is None else template.format(**shown)


PROBLEMS = {
    "missing": "missing",
    "extra_forbidden": "not known here",
    "value_error": "{error}",
    "assertion_error": "{error}",
    "literal_error": "not {expected}",
    "enum": "not {expected}",
    "string_type": "not a string",
    "string_pattern_mismatch": "a string that does not match {pattern}",
    "string_too_short": "shorter than {min_length} characters",
    "string_too_long": "longer than {max_length} characters",
    "int_parsing_size": "a number of too many digits",
    "finite_number": "not a finite number",
    "greater_than": "not above {gt}",
    "greater_than_equal": "below {ge}",
    "less_than": "not below {lt}",
    "less_than_equal": "above {le}",
    "too_short": "fewer than {min_length} items",
    "too_long": "more than {max_length} items",
    "none_required": "not null",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "not a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "not a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "neither true nor false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), "not a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "not an object with fields"),
    **dict.fromkeys(("dataclass_type", "dataclass_exact_type"), "not an object with fields"),
    **dict.fromkeys(("union_tag_invalid", "union_tag_not_found"), "of an unknown kind"),
}
"""Reasons by pydantic's type of a problem; its context fills the braces."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Returns `, did you mean ...` for the first of `known` that begins with `word` or is close to it, ignoring case.
    Empty if there is none."""
    folded, typed = {name.casefold(): name for name in known}, word.casefold()
    prefixed = [name for name in folded if typed and name.startswith(typed)]
    close = prefixed or difflib.get_close_matches(typed, list(folded), n=1)
    return f", did you mean {folded[close[0]]}?" if close else ""
