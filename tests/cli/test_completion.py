"""What a shell offers for names: each is one that the command takes."""

import pytest
from click.shell_completion import ShellComplete

from mobileclip_deploy.cli import cli


@pytest.mark.parametrize(
    ("words", "typed", "wanted"),
    [
        (["export", "--target"], "", {"onnx", "coreml", "executorch", "all"}),
        (["export", "--target"], "onnx,co", {"onnx,coreml"}),
        (["export", "--precision"], "", {"fp16", "w8", "smallest", "image=", "text="}),
        (["export", "--precision"], "image=fp16,text=w8", {"image=fp16,text=w8", "image=fp16,text=w8a8"}),
        (["export", "--precision"], "image=w8,text=w4p-table-w", {"image=w8,text=w4p-table-w6p"}),
        (["export", "--variant"], "mobileclip2_s", {"mobileclip2_s0", "mobileclip2_s4"}),
        (["export", "--chip"], "sm8650,galaxy-s2", {"sm8650,galaxy-s23", "sm8650,galaxy-s25"}),
        (["export", "--backend"], "xnn", {"xnnpack"}),
        (["convert", "--layout"], "", {"apple", "open_clip", "folded"}),
        (["benchmark", "--device"], "", {"host", "android", "ios", "mac", "browser", "ddp"}),
        (["lint", "--device"], "m", {"m1", "m4"}),
    ],
)
def test_names_are_offered(words: list[str], typed: str, wanted: set[str]) -> None:
    offered = {one.value for one in ShellComplete(cli, {}, "mobileclip-deploy", "_").get_completions(words, typed)}
    assert wanted <= offered
    assert "mixed" not in offered
    assert all(one.lower().startswith(typed.lower()) for one in offered)
