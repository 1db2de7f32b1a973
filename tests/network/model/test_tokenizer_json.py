"""A tokenizer.json that a stranger wrote is read, or refused in one line."""

import json
from typing import Any

import pytest
from json_files import put
from pieces import tokenizer_json

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.sentencepiece import spec_of
from mobileclip_deploy.network.model.variants import TokenizerSpec

LIKE = TokenizerSpec(
    kind="sentencepiece", cleaning="canonicalize", vocab_size=900, context_length=16, sot=None, eot=1, pad=0
)
DEEP = "[" * 3000 + "]" * 3000


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("normalizer", [], "normalizer: "),
        ("normalizer", "Lowercase", "normalizer: "),
        ("normalizer.normalizers", None, "normalizers: "),
        ("normalizer.normalizers.0", 1.5, "normalizers.0: "),
        ("normalizer.normalizers.0.type", {}, "type: not a string"),
        ("model", "DEEP", "nested too deeply"),
        ("model.vocab.a", 2**70, "'a' has no valid id"),
        ("model.vocab.a", True, "'a' has no valid id"),
        ("model.vocab", [["a", 0]], "unsupported settings"),
        ("model.merges.0", [[], {}], "merges.0"),
        ("model.merges.0", "a", "a merge results in no piece"),
        ("model.unk_token", "<none>", "unknown characters"),
        ("added_tokens.0.single_word", None, "added_tokens.0.single_word"),
        ("added_tokens.0.content", "HALF", "invalid JSON"),
        ("added_tokens.1", {"id": 700, "content": "<pad>"}, "added_tokens.1"),
    ],
)
def test_what_is_none_is_named_in_one_line(path: str, value: Any, why: str) -> None:
    document = json.loads(tokenizer_json())
    put(document, [int(step) if step.isdecimal() else step for step in path.split(".")], value)
    content = json.dumps(document).replace('"DEEP"', DEEP).replace("HALF", "\\ud800")
    with pytest.raises(InvalidInput, match=why) as refused:
        spec_of(content, LIKE, 900)
    assert len(str(refused.value)) < 300
