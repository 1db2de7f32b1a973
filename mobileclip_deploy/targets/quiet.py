"""Keeping the chatter of converters and runtimes from the user: it is shown only when a conversion fails."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from mobileclip_deploy.errors import ExportError, causes, first_sentence
from mobileclip_deploy.targets.foreign.torch import lean_tracing

LOGGERS = ("coremltools", "torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir", "onnxruntime", "executorch")


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Hold back warnings, log lines and prints of third parties; yields what they printed."""
    held = io.StringIO()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(held),
        contextlib.redirect_stderr(held),
    ):
        warnings.simplefilter("ignore")
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield held
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def conversion(what: str) -> Iterator[None]:
    """Run a converter quietly.

    Raises:
        ExportError: whatever it raised, in one line, with the original as its cause.
        KeyboardInterrupt: it came meanwhile, whatever the converter made of it.
    """
    handled = sys.exc_info()[1]  # whoever converts while an error is handled sees it again among the causes
    try:
        with quiet(), _own_garbage(), lean_tracing():
            yield
    except (KeyboardInterrupt, ExportError):
        raise
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, KeyboardInterrupt) and cause is not handled:
                raise cause from None
        kind, told = type(error).__name__, first_sentence(error)
        raise ExportError(f"{what} failed: {kind}{f': {told}' if told != kind else ''}") from error


@contextlib.contextmanager
def _own_garbage() -> Iterator[None]:
    """Look for garbage among what is made in here alone.

    Converters make millions of objects, so garbage is looked for often: each time among all that was there before, the
    modules of torch and of the converter, it takes a fifth of a conversion.
    """
    others = gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if not others:  # or whoever froze some before would lose that
            gc.unfreeze()


@contextlib.contextmanager
def hold_back() -> Iterator[None]:
    """Send both descriptors to nowhere; sys.stdout and sys.stderr are flushed before and keep their objects."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, copy in enumerate(saved, start=1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
