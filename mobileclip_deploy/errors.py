"""What can go wrong, as types; the command line maps each to one line on stderr and an exit code."""

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

from mobileclip_deploy.base.escaping import uncoloured

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONG_PATH = 260
"""Windows takes shorter ones alone, unless it is set to take all."""


LONGEST_LINE = 2000


class MobileClipDeployError(Exception):
    """Base of every error this package raises on purpose. Its text is one line that says what to do next.

    Attributes:
        exit_code: with which the command line ends.
        kind: its name in JSON.
        results: of an export, each of its bundles, the failed ones too, in the order of the request; else empty.
    """

    exit_code: ClassVar[int] = 2
    kind: ClassVar[str] = "error"
    results: tuple[Any, ...] = ()

    def __init_subclass__(cls) -> None:
        if "kind" not in vars(cls):
            cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def line(self) -> str:
        """The text, in one line of at most `LONGEST_LINE` characters: its end says what to do."""
        line = " ".join(str(self).split())
        if len(line) <= LONGEST_LINE:
            return line
        end = line[-LONGEST_LINE // 4 :]
        return f"{line[: LONGEST_LINE - len(end) - 5]} ... {end}"

    @property
    def remedy(self) -> str | None:
        """What to do, if the text says so behind a semicolon."""
        return self.line.rpartition("; ")[2] if "; " in self.line else None

    def as_dict(self) -> dict[str, str | int | None]:
        """For JSON."""
        return {"kind": self.kind, "message": self.line, "remedy": self.remedy, "exit_code": self.exit_code}


SEVERITY = (70, 2, 1, 3, 4)
"""Exit codes, the worst first: crashed, refused, failed, not run, undecided."""


def severity(error: MobileClipDeployError) -> int:
    """Sort key of errors: the worst is the smallest."""
    return SEVERITY.index(error.exit_code) if error.exit_code in SEVERITY else len(SEVERITY)


class UsageError(MobileClipDeployError):
    """An option or argument has no meaning: unknown variant, target, precision or combination of them."""


class InvalidInput(MobileClipDeployError):
    """A file, folder or value given by the user cannot be used as what it was given for."""


class Malformed(ValueError):
    """A part of a file is not what its format says. The text is ours: who reads the file puts it behind the name."""


class CheckpointError(InvalidInput):
    """A checkpoint cannot be read, is not of a known layout, or does not fit the variant."""


class DiskFull(InvalidInput):
    """There is no room left for what is to be written."""

    def __init__(self, place: str) -> None:
        super().__init__(f"no room is left on the disk of {place}; make room there, or choose another place")


class FoldingError(MobileClipDeployError):
    """A fold's precondition or postcondition does not hold (training mode, half-folded, output changed)."""


class ExportError(MobileClipDeployError):
    """A converter failed, or a stage of the export no longer computes what the stage before it computed."""

    exit_code = 3


class GateFailed(MobileClipDeployError):
    """An artifact was produced and measured, and is further from the checkpoint than its gate allows."""

    exit_code = 1


class Undecided(MobileClipDeployError):
    """Nothing failed, and what accuracy was measured on is too little to tell whether a gate is held."""

    exit_code = 4


class DependencyMissing(MobileClipDeployError):
    """An optional package is not installed, or is broken; the text holds the pip line that installs it."""


def needed(module: str, install: str) -> Any:
    """A module of an optional package, imported.

    Args:
        install: what pip installs, such as "mobileclip-deploy[hub]".

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


class RuntimeFailed(MobileClipDeployError):
    """A runtime or device is missing or failed while running an artifact."""

    exit_code = 3


class NotRun(RuntimeFailed):
    """A check could not be carried out here. It is reported as not run, never as passed."""


def listed(names: Iterable[str], most: int = 10) -> str:
    """The first of several names, and how many more there are: a stranger's file can hold thousands."""
    every = [name[:80] for name in names]
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


LITTLE_MEMORY = "there is not enough memory; end other programs, or raise the limit (`ulimit -v`)"
MEMORY = ("Cannot allocate memory", "failed to map segment", "DefaultCPUAllocator", "std::bad_alloc")
ONEDNN = "could not create a primitive"
"""Where memory is limited, oneDNN says no more than this."""


def no_memory(error: BaseException) -> bool:
    """Returns whether an error says that there is no memory left, or came of one that does."""
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
    """This package has a mistake: nobody expected this exception. It is no verdict of what was given."""

    exit_code = 70


def no_room(error: BaseException) -> bool:
    """Whether an error says that the disk, a quota or a limit is full, or came of one that does."""
    # What is written in other languages tells it in words.
    return any(
        getattr(one, "errno", None) in FULL or any(os.strerror(number) in str(one) for number in FULL)
        for one in causes(error)
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it came of, and so on."""
    seen: list[BaseException] = []
    place: BaseException | None = error
    while place is not None and place not in seen:
        seen.append(place)
        yield place
        place = place.__cause__ or place.__context__


def of_system(error: OSError) -> MobileClipDeployError:
    """What the system refused, in one line with the file that it is about."""
    if no_room(error):
        return DiskFull(str(error.filename or "the output"))
    if no_memory(error):
        return RuntimeFailed(LITTLE_MEMORY)
    if sys.platform == "win32" and len(str(error.filename or "")) >= LONG_PATH:
        problem = f"{error.filename} is a path of more than {LONG_PATH - 1} characters"
        return RuntimeFailed(f"{problem}; choose a shorter one, or switch on LongPathsEnabled in Windows")
    return RuntimeFailed(f"{error.filename or 'input/output'}: {error.strerror or error}")


def first_sentence(error: BaseException, most: int = 300) -> str:
    """The first sentence of what a foreign package raised, without colours and advice, in at most `most` characters;
    the kind of error where it said nothing."""
    line = (uncoloured(str(error)).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(". ")[0].strip().removesuffix(".")[:most]


def worded(error: BaseException) -> str:
    """Why a file or a value cannot be used, in words of ours: Python's, the system's and other packages' own are not
    for users. What this package raised itself stays."""
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
    """The place in a text, as the readers of YAML and TOML tell it."""
    mark = getattr(error, "problem_mark", None)
    at = re.search(r"at line (\d+), column (\d+)\)$", str(error))
    line, column = (mark.line + 1, mark.column + 1) if mark else at.groups() if at else ("", "")
    return f" at line {line}, column {column}" if line else ""


WHY = "\0"
"""Where in the text of a refusal the reason stands: no name of a file that is told beside it can hold that."""


@contextlib.contextmanager
def refusing(what: str, *kinds: type[Exception], into: Callable[[str], Exception] = InvalidInput) -> Iterator[None]:
    """Read a file or a value in here.

    Args:
        what: what cannot be used where one of these kinds of errors is raised. The reason stands in the place of
            `WHY`; where `what` has none, behind a colon.
        into: makes the error that is raised instead.

    Raises:
        InvalidInput: `what`, and the reason in words of ours.
    """
    try:
        yield
    except kinds as error:
        told = what if WHY in what else f"{what}: {WHY}"
        raise into(told.replace(WHY, worded(error))) from error


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """Call a runtime in here, whose own exceptions have no common base. Errors of ours pass as they are.

    Args:
        what: what failed where it raises one.

    Raises:
        RuntimeFailed: `what`, a colon, and the first sentence of the runtime's.
    """
    try:
        yield
    except MobileClipDeployError:
        raise
    except Exception as error:
        raise RuntimeFailed(f"{what}: {first_sentence(error)}") from error


DAMAGED = "truncated, damaged or of another format"
TWICE = ("Cannot overwrite", "Cannot declare")
"""What tomllib says of it."""
KINDS = {
    "RecursionError": "nested too deeply",
    "MemoryError": "it needs more memory than available",
    "OverflowError": "a number that is too large",
    **dict.fromkeys(("TOMLDecodeError", "YAMLError"), "unreadable"),
    **dict.fromkeys(("TypeError", "AttributeError", "IndexError"), "its structure is not valid"),
}
"""Kinds of errors by name, those of other packages without importing them, and what is said of them."""


SYSTEM = {
    errno.ENOENT: "there is none",
    errno.EISDIR: "a folder, not a file",
    errno.ENOTDIR: "a file stands where a folder has to be",
    errno.EACCES: "it may not be read",
    errno.EPERM: "it may not be read",
    errno.ELOOP: "a circular link",
    errno.ENAMETOOLONG: "name too long",
}
"""What the system says most often of a file, in words of ours."""


def first_problem(error: ValidationError) -> str:
    """The first of the problems that pydantic found, in one line and in words of ours: the place where it is, and what
    it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:80] for part in first["loc"])  # a part may be a name that a stranger wrote
    return f"{place}: {problem(first)}" if place else problem(first)


def problem(found: ErrorDetails) -> str:
    """One of the problems that pydantic found, in words of ours."""
    known, context = PROBLEMS.get(found["type"]), found.get("ctx", {})
    shown = {name: f"{one:g}" if isinstance(one, float) else str(one) for name, one in context.items()}
    if found["type"] == "json_invalid":
        return _no_json(str(context.get("error")))
    return found["msg"] if known is None else known.format(**shown)


def _no_json(told: str) -> str:
    """What the parser of pydantic tells, with the place."""
    known = {"recursion": "nested too deeply", "out of range": "a number of too many digits"}
    what = next((words for part, words in known.items() if part in told), "invalid JSON")
    at = re.search(r"line (\d+) column (\d+)", told)
    return what if at is None else f"{what}, at line {at[1]}, column {at[2]}"


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
"""What pydantic calls a problem, and what is said of it; what stands in braces is its context."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`, did you mean ...` when one of `known` begins with `word` or is close to it, capitals aside, else the empty
    string."""
    folded, asked = {name.casefold(): name for name in known}, word.casefold()
    begun = [name for name in folded if asked and name.startswith(asked)]
    close = begun or difflib.get_close_matches(asked, list(folded), n=1)
    return f", did you mean {folded[close[0]]}?" if close else ""
