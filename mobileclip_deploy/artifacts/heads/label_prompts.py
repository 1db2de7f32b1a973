"""Prompts of labels as the tokenizer reads them: finds equal, cut or unknown ones before anything is embedded."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.tokenizer import encode, unknown_share
from mobileclip_deploy.network.model.variants import TokenizerSpec

SHOWN = 3


def check_label_prompts(labels: Sequence[str], template: str, tokens: TokenizerSpec) -> tuple[str, ...]:
    """Returns up to two sentences: on labels whose prompts are cut at the context, and on labels with unknown words.

    Args:
        template: with `{}` for the label.

    Raises:
        UsageError: the prompts of two labels have the same tokens, so that they would share a probability.
    """
    prompts = [template.replace("{}", label) for label in labels]
    first: dict[bytes, str] = {}
    rows = encode(prompts, tokens)
    cut = _cut(labels, prompts, rows, tokens)
    for label, row in zip(labels, rows, strict=True):
        other = first.setdefault(row.tobytes(), label)
        if other is not label:
            why = "equal after being cut" if label in cut else "the same prompt to the tokenizer"
            raise UsageError(f"the labels {other!r} and {label!r} are {why}; leave one out, or rephrase it")
    notes = []
    if cut:
        notes.append(f"cut at {tokens.context_length} tokens, the rest is ignored: the prompts of {_listed(cut)}.")
    shares = ((label, unknown_share(prompt, tokens)) for label, prompt in zip(labels, prompts, strict=True))
    if unknown := [f"{label} ({share:.0%})" for label, share in shares if share > 0]:
        notes.append(f"The text tower's vocabulary lacks words of the prompts of {_listed(unknown)}.")
    return tuple(notes)


def _cut(
    labels: Sequence[str], prompts: Sequence[str], rows: npt.NDArray[np.int64], tokens: TokenizerSpec
) -> list[str]:
    """Returns the labels whose prompts do not fit. Their tokens stay the same with more text after them, and with a
    character less."""
    more = encode([f"{prompt} {prompt}" for prompt in prompts], tokens)
    less = encode([prompt.rstrip()[:-1] for prompt in prompts], tokens)
    same = (more == rows).all(1) & (less == rows).all(1)
    return [label for label, is_cut in zip(labels, same.tolist(), strict=True) if is_cut]


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return ", ".join(labels[:SHOWN]) + more
