"""What a stranger has to know of `Target` and `Artifact` to write a format of his own."""

from mobileclip_deploy.targets import Artifact, Target


def test_a_target_is_small() -> None:
    members = {name for name in {*vars(Target), *Target.__annotations__} if not name.startswith("_")}
    # 25 before files of both towers (`join`, `joint_answers`) and files of other tools (`open_foreign`).
    assert len(members) <= 28, sorted(members)
    named = {"name", "title", "capabilities"}  # which have no defaults either
    assert len(Target.__abstractmethods__ | named) <= 5
    assert Artifact.__abstractmethods__ == {"inputs", "outputs", "runner"}
