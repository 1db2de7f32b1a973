"""A reinforced dataset has the same bytes on however many processes, also if one of them is killed."""

from pathlib import Path

import pytest
import torch
from emoji_pairs import contents, write_pairs

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.training.reinforcement.building import ReinforcementSettings, reinforce, task_memory
from mobileclip_deploy.training.reinforcement.teachers import Teacher, loaded, share

SETTINGS = ReinforcementSettings(augmentations=2, shard_rows=3)


@pytest.mark.slow  # tests/base/scheduling kills processes of such a cluster
def test_two_processes_one_of_which_is_killed_write_what_one_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="needs Dask: pip install 'mobileclip-deploy[scale]'")
    monkeypatch.setattr("mobileclip_deploy.base.scheduling.cluster.available_cores", lambda: 2)
    import psutil

    pairs, teachers = read_pairs(write_pairs(tmp_path / "pairs", 12)), [Teacher.of(mcd.load_model())]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        reinforce(pairs, teachers, tmp_path / "one", SETTINGS)
    finally:
        torch.set_num_threads(threads)
    killed = []

    def kill(text: str) -> None:
        if not killed and ", 2 running, " in text and not text.startswith("0 "):
            children = psutil.Process().children(recursive=True)
            killed.extend(one for one in children if "spawn_main" in " ".join(one.cmdline()))
            killed[0].kill()

    made = reinforce(pairs, teachers, tmp_path / "two", SETTINGS, kill, scheduler="local")
    assert len(killed) == 2
    assert made.made == 4
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_teacher_that_was_lent_says_the_same(tmp_path: Path) -> None:
    teacher = Teacher.of(mcd.load_model())
    shared = share(teacher, tmp_path / "0.safetensors")
    assert all(one.is_meta for one in shared.teacher.model.parameters())
    given = loaded(shared)
    assert given.entry == teacher.entry
    assert loaded(shared) is given
    assert torch.equal(given.texts(["a cat"]), teacher.texts(["a cat"]))


def test_a_task_is_expected_to_need_more_for_larger_teachers_and_shards() -> None:
    teacher = Teacher.of(mcd.load_model())
    one = task_memory([teacher], SETTINGS)
    assert task_memory([teacher] * 2, SETTINGS) - one >= 8 * 6_000_000
    assert one > 600e6


def test_more_shards_than_an_index_holds_are_refused(tmp_path: Path) -> None:
    pairs = read_pairs(write_pairs(tmp_path / "pairs", 2))
    many = type(pairs)(pairs.folder, pairs.rows * 10_000)
    with pytest.raises(UsageError, match=r"write at least 2 pairs in each with `shard_rows`"):
        reinforce(many, [Teacher.of(mcd.load_model())], tmp_path / "made", ReinforcementSettings(shard_rows=1))
    assert not (tmp_path / "made").exists()
