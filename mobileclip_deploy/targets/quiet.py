"""Suppression of the output of converters and runtimes; `quiet` collects it for error reports."""

import contextlib
import gc
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from mobileclip_deploy.errors import ExportError, causes, first_sentence
from mobileclip_deploy.targets.vendor_internals.torch import lean_tracing

LOGGERS = ("coremltools", "torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir", "onnxruntime", "executorch")


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Context manager that suppresses warnings, log lines and prints of other packages; yields the printed text."""
    printed = io.StringIO()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("ignore")
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield printed
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def conversion(what: str) -> Iterator[None]:
    """Context manager that runs a converter quietly.

    Raises:
        ExportError: the converter raised an exception, which is the cause; the text is one line.
        KeyboardInterrupt: it arrived during the conversion, even if the converter wrapped it.
    """
    handled = sys.exc_info()[1]  # an error that was being handled before is among the causes, too
    try:
        with quiet(), _own_garbage(), lean_tracing():
            yield
    except (KeyboardInterrupt, ExportError):
        raise
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, KeyboardInterrupt) and cause is not handled:
                raise cause from None
        kind, reason = type(error).__name__, first_sentence(error)
        raise ExportError(f"{what} failed: {kind}{f': {reason}' if reason != kind else ''}") from error


@contextlib.contextmanager
def _own_garbage() -> Iterator[None]:
    """Context manager that limits garbage collection to objects made inside.

    Converters make millions of objects, so collections are frequent. Each would search all older objects, the modules
    of torch and of the converter included, which takes a fifth of a conversion.
    """
    others = gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if not others:  # objects that others froze before must stay frozen
            gc.unfreeze()


@contextlib.contextmanager
def hold_back() -> Iterator[None]:
    """Context manager that redirects descriptors 1 and 2 to the null device. sys.stdout and sys.stderr are flushed
    before, and keep their objects."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for descriptor, copy in enumerate(saved, start=1):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
