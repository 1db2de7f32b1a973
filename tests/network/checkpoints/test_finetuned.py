"""Checkpoints that people have after a fine-tune: each opens to the same network, or is refused with what to do.

The files are as their libraries write them (names and entries from `make_real_checkpoints.py`, open_clip_torch 3.3,
PEFT 0.21, Lightning 2.6, transformers 5.24); the last test reads the libraries' own files, where they were written.
"""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conversions import ROOT
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import CAUSAL, checkpoint, known, same_network
from torch import Tensor, nn

from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.artifacts.towers.classifier import make_classifier, probabilities
from mobileclip_deploy.cli import cli
from mobileclip_deploy.errors import CheckpointError, UsageError
from mobileclip_deploy.network.checkpoints.convert import convert
from mobileclip_deploy.network.checkpoints.finetuned import STARTS, merged
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.checkpoints.weights_files import checkpoint_sha256
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.provenance import Provenance

Weights = dict[str, Tensor]
IMAGES = torch.linspace(0, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return checkpoint("tiny_both", "open_clip")


def write(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(data, path) if path.suffix == ".safetensors" else torch.save(data, path)
    return path


def embed(model: MobileCLIP) -> Tensor:
    with torch.no_grad():
        return model.encode_image(IMAGES)


def origin(model: MobileCLIP) -> Provenance:
    assert model.provenance is not None
    return model.provenance


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + name: value for name, value in weights.items()}


def sharded(folder: Path, weights: Weights, index: str = "model.safetensors.index.json") -> Path:
    names = sorted(weights)
    parts = {f"model-0000{number + 1}-of-00002.safetensors": names[number::2] for number in range(2)}
    for file, held in parts.items():
        write(folder / file, {name: weights[name] for name in held})
    listed = {name: file for file, held in parts.items() for name in held}
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
    return folder


ENTRIES: dict[str, Callable[[Weights], Any]] = {
    "DistributedDataParallel": lambda weights: prefixed(weights, "module."),
    "torch.compile": lambda weights: prefixed(weights, "_orig_mod."),
    "PEFT, merged": lambda weights: prefixed(weights, "base_model.model."),
    "PEFT of a wrapped model": lambda weights: prefixed(weights, "base_model.model.model."),
    "EMA": lambda weights: {
        "model": prefixed(weights, "module."),
        "model_ema": {"n_averaged": torch.tensor(7)} | prefixed(weights, "module."),
    },
    "Lightning": lambda weights: {
        "epoch": 0,
        "global_step": 1,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": prefixed(weights, "model."),
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    },
}


# What each leaves in the file; open_clip trains from a local file with OpenAI's mean and std, and none records it.
SIGNS = {
    "DistributedDataParallel": "the prefix `module.`",
    "torch.compile": "the prefix `_orig_mod.`",
    "PEFT, merged": "the prefix `base_model.model.`",
    "PEFT of a wrapped model": "the prefix `base_model.model.model.`",
    "EMA": "averaged weights (model_ema), the prefix `module.`",
    "Lightning": "epoch, pytorch-lightning_version, the prefix `model.`",
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_wrapped_checkpoints_are_the_same_network(tmp_path: Path, weights: Weights, kind: str) -> None:
    plain = load(write(tmp_path / "plain.pt", weights))
    path = write(tmp_path / "kind.pt", ENTRIES[kind](weights))
    assert f"seems to be trained further (it holds {SIGNS[kind]}), and does not record" in refusal(path)
    model = load(path, preprocess="card")
    assert same_network(model, plain)
    assert origin(model).weights == origin(plain).weights


def test_shards_open_by_folder_and_by_index(tmp_path: Path, weights: Weights) -> None:
    plain = load(write(tmp_path / "plain.pt", weights))
    folder = sharded(tmp_path / "model", weights)
    index = folder / "model.safetensors.index.json"
    assert "seems to be trained further (it holds shards)" in refusal(folder)
    for path in (folder, index):
        model = load(path, preprocess="card")
        assert same_network(model, plain)
        assert origin(model).sha256 == checkpoint_sha256(index)
    first, second = sorted(folder.glob("*.safetensors"))
    before = checkpoint_sha256(index)
    write(first, {name: value + 1 for name, value in weights.items() if name in sorted(weights)[0::2]})
    assert checkpoint_sha256(index) != before
    second.unlink()
    assert f"lists 2 shards, and 1 of them are missing ({second.name}, ...)" in refusal(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    assert "is not a plain path" in refusal(index)
    index.write_text("[]")
    assert "is not an index of shards" in refusal(index)


def test_two_shards_with_the_same_tensor_are_refused(tmp_path: Path, weights: Weights) -> None:
    folder = sharded(tmp_path / "model", weights)
    first, second = sorted(folder.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    assert "two shards have the same tensor" in refusal(folder)


def adapter(folder: Path, factors: Weights, **config: Any) -> Path:
    write(folder / "adapter_model.safetensors", prefixed(factors, "base_model.model."))
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["c_fc"]} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def factors(weights: Weights) -> tuple[Weights, dict[str, tuple[Tensor, Tensor]]]:
    """Factors of a linear layer, a 1 x 1 convolution, and of attention, whose matrix has no name of its own."""
    torch.manual_seed(0)
    layers = {"text.transformer.resblocks.0.mlp.c_fc": "weight", "text.transformer.resblocks.1.attn": "in_proj_weight"}
    layers["visual.trunk.stages.0.blocks.0.mlp.fc1"] = "weight"
    layers["text.transformer.resblocks.1.attn.base_layer.out_proj"] = "weight"
    made: Weights = {}
    expected: dict[str, tuple[Tensor, Tensor]] = {}
    for module, end in layers.items():
        shape = weights[f"{module.replace('.base_layer', '')}.{end}"].shape
        down, up = torch.randn(2, *shape[1:]), torch.randn(shape[0], 2, *(1 for _ in shape[2:]))
        made |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
        expected[f"{module.replace('.base_layer', '')}.{end}"] = (down, up)
    return made, expected


@pytest.mark.parametrize(("config", "scale"), [({}, 3.0), ({"use_rslora": True}, 6 / 2**0.5)])
def test_a_lora_adapter_is_merged_into_its_base(
    tmp_path: Path, weights: Weights, config: dict[str, Any], scale: float
) -> None:
    made, updates = factors(weights)
    folder = adapter(tmp_path / "adapter", made | {"logit_scale": torch.tensor(4.0)}, **config)
    base = write(tmp_path / "base.safetensors", {name: value.half() for name, value in weights.items()})
    done = convert(folder, None, tmp_path / "merged.safetensors", base=base)
    assert "a LoRA adapter of 4 layers was merged into base.safetensors, in float32" in done.notes
    expected = {name: value.half().float() for name, value in weights.items()} | {"logit_scale": torch.tensor(4.0)}
    for name, (down, up) in updates.items():
        product = up.flatten(1).double() @ down.flatten(1).double()
        times = 2 if name.endswith("out_proj.weight") else 1  # PEFT adds that update twice
        expected[name] = (expected[name].double() + times * scale * product.reshape(expected[name].shape)).float()
    merged, wanted = load(done.output), load(write(tmp_path / "wanted.pt", expected))
    for name, value in wanted.state_dict().items():
        assert torch.allclose(merged.state_dict()[name], value, rtol=1e-5, atol=1e-5), name
    assert not torch.allclose(embed(merged), embed(load(base)))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        *[
            ({"use_dora": True}, "use_dora"),
            ({"peft_type": "LOHA"}, "peft_type"),
            ({"r": 0}, "r: "),
            ({"r": None}, "r: "),
        ],
        *[
            ({"init_lora_weights": start}, "init_lora_weights: such a start")
            for start in ("loftq", "corda", "PiSSA", {})
        ],
        ({"layer_replication": [[0, 4], [2, 5]]}, "layer_replication: not null"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices: not null"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    tmp_path: Path, weights: Weights, config: dict[str, Any], reason: str
) -> None:
    folder = adapter(tmp_path / "adapter", factors(weights)[0], **config)
    base = write(tmp_path / "base.pt", weights)
    with pytest.raises(CheckpointError, match=rf"adapter_config.json cannot be used \({reason}.*merge_and_unload"):
        convert(folder, None, tmp_path / "merged.safetensors", base=base)


def test_peft_itself_merges_an_adapter_to_the_same_weights(tmp_path: Path) -> None:
    """The file is written by `make_peft_golden.py`: an adapter is merged as PEFT does it, or refused."""
    golden, refused = ROOT / "tests" / "golden" / "peft-0.21.2.safetensors", []
    with safe_open(golden, framework="pt") as file:
        configs = file.metadata()
    for case, config in configs.items():
        named = {k.removeprefix(f"{case}/"): v for k, v in load_file(golden).items() if k.startswith(f"{case}/")}
        parts = {
            part: {key.removeprefix(part): value for key, value in named.items() if key.startswith(part)}
            for part in ("base/", "adapter/base_model.model.", "merged/")
        }
        base, folder = write(tmp_path / case / "base.safetensors", parts["base/"]), tmp_path / case
        tuned = write(folder / "adapter_model.safetensors", parts["adapter/base_model.model."])
        (folder / "adapter_config.json").write_text(config, encoding="utf-8")
        if json.loads(config)["init_lora_weights"] not in STARTS:
            with pytest.raises(CheckpointError, match="path_initial_model_for_weight_conversion"):
                merged(open_tensors(base), open_tensors(tuned))
            refused.append(case)
            (folder / "adapter_config.json").write_text(json.dumps(json.loads(config) | {"init_lora_weights": True}))
        result = merged(open_tensors(base), open_tensors(tuned))
        same = [torch.allclose(result.read(name), value, atol=1e-6) for name, value in parts["merged/"].items()]
        assert all(same) == (case not in refused), case  # those that are refused would be another network
    assert sorted(configs.keys() - set(refused)) == ["converted", "eva", "false", "gaussian", "true"]
    assert sorted(refused) == ["olora", "pissa", "pissa_niter_4"]


def test_a_damaged_configuration_or_index_is_refused(tmp_path: Path, weights: Weights) -> None:
    folder, base = adapter(tmp_path / "adapter", factors(weights)[0]), write(tmp_path / "base.pt", weights)
    index = sharded(tmp_path / "model", weights) / "model.safetensors.index.json"
    for content in (b"\xff", b"{", b'{"a": 1, "a": 2}', b"9" * 5000, b"[" * 5000, b'{"a": "\\ud800"}'):
        index.write_bytes(content)
        assert "is not an index of shards" in refusal(index)
        (folder / "adapter_config.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"adapter_config\.json cannot be used"):
            convert(folder, None, tmp_path / "merged.safetensors", base=base)


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path, weights: Weights) -> None:
    base = write(tmp_path / "base.pt", weights)
    made, _ = factors(weights)

    def message(factors: Weights) -> str:
        with pytest.raises(CheckpointError) as caught:
            convert(adapter(tmp_path / "adapter", factors), None, tmp_path / "x.safetensors", base=base, force=True)
        return str(caught.value)

    assert "text.other has no layer in base.pt" in message(
        {"text.other.lora_A.weight": torch.ones(2, 3), "text.other.lora_B.weight": torch.ones(3, 2)}
    )
    name = "text.transformer.resblocks.0.mlp.c_fc.lora_B.weight"
    assert "do not make base.pt's" in message(made | {name: torch.ones(3, 2)})
    assert "fits no tensor of base.pt" in message(made | {"text.new_layer": torch.ones(3)})
    assert "has no layer in" in message({key: value for key, value in made.items() if key != name})
    assert "has no LoRA factors" in message({"logit_scale": torch.tensor(1.0)})
    text = refusal(tmp_path / "adapter")
    assert "cannot be used as it is" in refusal(adapter(tmp_path / "adapter", made))
    assert text


def probe(weights: Weights, kind: str) -> Weights:
    torch.manual_seed(1)
    head = {"weight": torch.randn(3, 24), "bias": torch.randn(3)}
    if kind == "WiSE-FT":  # src/models/modeling.py of mlfoundations/wise-ft
        return prefixed(weights, "image_encoder.model.") | prefixed(head, "classification_head.")
    visual = {name.removeprefix("visual."): value for name, value in weights.items() if name.startswith("visual.")}
    return prefixed(visual, "backbone.") | prefixed(head, "fc.")


@pytest.mark.parametrize("kind", ["probe", "WiSE-FT"])
def test_a_linear_probe_becomes_a_classifier(tmp_path: Path, weights: Weights, kind: str) -> None:
    entries = probe(weights, kind)
    path = write(tmp_path / "probe.pt", entries)
    assert "a head), and does not record its preprocessing" in refusal(path)
    model = load(path, preprocess="card")
    assert model.towers == (("image", "text") if kind == "WiSE-FT" else ("image",))
    assert any("its head of 3 classes" in note for note in origin(model).notes)
    features, labels = embed(model), LabelSet(("a", "b", "c"))
    prefix = "classification_head." if kind == "WiSE-FT" else "fc."
    inputs = nn.functional.normalize(features, dim=1) if kind == "WiSE-FT" else features
    expected = torch.softmax(inputs @ entries[f"{prefix}weight"].T + entries[f"{prefix}bias"], dim=1)
    assert np.allclose(probabilities(model, labels, features.numpy()), expected, atol=1e-6)
    fold(model)
    assert make_classifier(model, labels).biases is not None
    from mobileclip_deploy.artifacts.towers.head import Head

    Head(labels).check(model, ("image",))
    with pytest.raises(UsageError, match="head has 3 classes, and `labels` has 2"):
        Head(LabelSet(("a", "b"))).check(model, ("image",))


@pytest.mark.slow
def test_a_probe_is_exported_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with known(tmp_path, CAUSAL) as file:
        write(Path("probe.pt"), probe(load_file(file), "probe"))
        assert next_line(Path("probe.pt"))[-6:-2] == ["--tower", "image", "--labels", "NAMES.txt"]
        words = ("--target", "onnx", "--precision", "fp32", "--tower", "image", "--labels", "a,b,c")
        words = (*words, "--preprocess", "card")
        done = run("export", "--checkpoint", "probe.pt", "--variant", CAUSAL, *words, "-o", "out")
        assert done.exception is None, done.exception
        assert "passed" in done.output
        taught = run("export", "--checkpoint", "probe.pt", "--variant", CAUSAL, *words, "-o", "more", "--examples", ".")
        assert "the checkpoint has a trained head, which --examples do not change" in str(taught.exception)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    assert "holds no tensors" in refusal(write(tmp_path / "empty.safetensors", {}))


def test_a_head_that_does_not_fit_is_refused(tmp_path: Path, weights: Weights) -> None:
    entries = probe(weights, "probe")
    assert "its head takes 40 values" in refusal(write(tmp_path / "a.pt", entries | {"fc.weight": torch.ones(3, 40)}))
    broken = entries | {"fc.bias": torch.full((3,), torch.nan)}
    assert "its head has NaN" in refusal(write(tmp_path / "b.pt", broken))
    assert "is not a head of 2 classes" in refusal(write(tmp_path / "c.pt", entries | {"fc.bias": torch.ones(7)}))


@pytest.mark.parametrize("variant", ["tiny_both", "tiny_plain"])
def test_an_image_tower_without_its_prefix_opens(tmp_path: Path, variant: str) -> None:
    every = checkpoint(variant, "open_clip")
    visual = {name.removeprefix("visual."): value for name, value in every.items() if name.startswith("visual.")}
    path = write(tmp_path / "visual.pt", visual)
    with pytest.raises(CheckpointError, match=r"\(it holds the image tower alone\), and does not record"):
        load(path, variant)
    model = load(path, variant, preprocess="card")
    assert model.towers == ("image",)
    assert any("lack the prefix `visual.`" in note for note in origin(model).notes)
    whole = load(write(tmp_path / "every.pt", every), variant)
    assert model.image is not None
    assert whole.image is not None
    assert same_network(model.image, whole.image)


class Wrapper(nn.Module):
    """A model of a training script."""


def test_what_cannot_open_says_the_one_thing_to_do(tmp_path: Path, weights: Weights) -> None:
    page = tmp_path / "page.pt"
    page.write_text("\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>")
    assert "is a web page, not weights" in refusal(page)
    module = refusal(write(tmp_path / "pickled.pt", Wrapper()))
    assert "torch.save(torch.load('pickled.pt', weights_only=False).state_dict(), 'weights.pt')" in module
    entries = refusal(write(tmp_path / "code.ckpt", {"state_dict": weights, "hyper_parameters": Wrapper()}))
    assert "torch.save(torch.load('code.ckpt', weights_only=False)['state_dict'], 'weights.pt')" in entries
    resnet = {"visual.layer4.0.conv1.weight": torch.ones(2, 2), "visual.attnpool.k_proj.weight": torch.ones(2, 2)}
    text = refusal(write(tmp_path / "rn50.pt", resnet | {"token_embedding.weight": torch.ones(3, 2)}))
    assert "one of CLIP's ResNets, such as RN50" in text
    assert "missing" not in text
    assert "CLIP-Adapter" in refusal(write(tmp_path / "clip_adapter.pt", {"adapter.fc.0.weight": torch.ones(2, 2)}))


def run(*words: str) -> Any:
    return CliRunner().invoke(cli, [*words], standalone_mode=False)


def next_line(path: Path) -> list[str]:
    shown = run("inspect", str(path), "--variant", CAUSAL)  # tiny_later is the same network, without its words
    assert shown.exception is None, shown.exception
    (line,) = (line for line in shown.output.splitlines() if line.startswith("next"))
    return shlex.split(line)[2:]


@pytest.mark.slow  # an export
@pytest.mark.once
@pytest.mark.parametrize("kind", ["epoch", "visual", "sharded"])
def test_the_next_line_of_inspect_works(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with known(tmp_path, CAUSAL) as file:
        _next_line_works(load_file(file), kind)


def _next_line_works(weights: Weights, kind: str) -> None:
    visual = {name.removeprefix("visual."): value for name, value in weights.items() if name.startswith("visual.")}
    path = {
        "epoch": lambda: write(Path("epoch_1.pt"), {"epoch": 1, "state_dict": weights, "optimizer": {}}),
        "visual": lambda: write(Path("visual.pt"), visual),
        "sharded": lambda: sharded(Path("model"), weights),
    }[kind]()
    words = next_line(path)
    assert "--preprocess" in words
    assert ("--tower" in words) == (kind == "visual")
    words[words.index("all")] = "onnx"
    done = run(*words, "--no-verify")  # one target is enough here
    assert done.exception is None, done.exception


def test_inspect_refuses_nan(tmp_path: Path, weights: Weights) -> None:
    name = next(iter(weights))
    path = write(tmp_path / "nan.pt", weights | {name: torch.full_like(weights[name], torch.nan)})
    assert "holds NaN or infinite weights" in str(run("inspect", str(path)).exception)


REAL = os.environ.get("MOBILECLIP_DEPLOY_REAL_CHECKPOINTS")
ALIKE = ("distributed.pt", "compiled.pt", "averaged.pt", "sharded", "visual.pt", "probe.pt", "wise_ft.pt")


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="needs MOBILECLIP_DEPLOY_REAL_CHECKPOINTS, see make_real_checkpoints.py")
def test_the_libraries_own_files(tmp_path: Path) -> None:
    folder = Path(REAL or "")
    images = torch.linspace(0, 1, 3 * 256 * 256).reshape(1, 3, 256, 256)

    def answer(path: Path, **options: Any) -> Tensor:
        with torch.no_grad():
            return load(path, **options).encode_image(images)

    base = answer(folder / "base.safetensors")
    for name in ALIKE:
        assert torch.equal(answer(folder / name, preprocess="card"), base), name
    assert torch.allclose(answer(folder / "bfloat16.safetensors"), base, rtol=0.1, atol=0.05)
    for name in ("epoch_1.pt", "lightning.ckpt"):
        assert torch.isfinite(answer(folder / name, preprocess="card")).all()
    merged = answer(folder / "peft_merged.pt")
    assert torch.equal(merged, answer(folder / "merged_by_peft.safetensors"))
    done = convert(folder / "adapter", None, tmp_path / "merged.safetensors", base=folder / "base.safetensors")
    assert torch.allclose(answer(done.output), merged, rtol=1e-3, atol=1e-4 * float(merged.abs().max()))
    small = folder / "vit_b_32_256.safetensors"
    assert "clip_vit_b32_256 (GELU, 256 px), clip_vit_b32_laion (GELU, 224 px)" in refusal(small)
    assert load(small, "clip_vit_b32_256").variant.preprocess.size == 256
    assert load(folder / "clip_model").variant.name == "tinyclip_8m_16"
    refused = {
        name: refusal(folder / name) for name in ("adapter", "adapter_mlp.pt", "pickled.pt", "rn50.pt", "nan.pt")
    }
    assert "convert ADAPTER --base ORIGINAL" in refused["adapter"]
    assert "save its state_dict alone" in refused["pickled.pt"]
    assert "RN50" in refused["rn50.pt"]
    assert "NaN" in refused["nan.pt"]
    assert "it has LoRA factors: merge" in refusal(folder / "peft_unmerged.pt")


def test_mixes_lie_between_the_original_and_the_fine_tune(tmp_path: Path) -> None:
    original, tuned = checkpoint("tiny_both", "apple"), checkpoint("tiny_both", "open_clip", seed=1)
    files = write(tmp_path / "original.pt", original), write(tmp_path / "tuned.pt", tuned)
    first, last = (load(file).state_dict() for file in files)
    for ratio in (0.0, 0.25, 1.0):
        done = convert(files[1], None, tmp_path / f"{ratio}.safetensors", mix=files[0], ratio=ratio)
        assert (done.layout, done.ratio) == ("open_clip", ratio)
        kept = "ratio 0: 0.0.safetensors has the weights of original.pt, and none of tuned.pt" in done.notes
        notes = origin(load(done.output)).notes
        assert kept == (ratio == 0) == ("the weights of original.pt, unchanged: a mix at ratio 0" in notes)
        assert kept != any(note.startswith("fine-tuned from original.pt") for note in notes)
        for name, value in load(done.output).state_dict().items():
            start = first.get(name, torch.zeros_like(value))  # Apple's form has no bias of the projection
            if value.is_floating_point():
                expected = start + ratio * (last[name] - start)
                assert torch.allclose(value, expected, rtol=1e-5, atol=1e-6), name
    with pytest.raises(UsageError, match=r"`ratio` is 1\.5; give the share of the tuned weights, from 0"):
        convert(files[1], None, tmp_path / "x.safetensors", mix=files[0], ratio=1.5)
    other = write(tmp_path / "other.pt", checkpoint("tiny_plain", "open_clip"))
    with pytest.raises(CheckpointError, match="not tiny_both"):
        convert(files[1], None, tmp_path / "x.safetensors", mix=other)


def test_options_of_convert_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for words, message in (
        ((), "--layout is missing"),
        (("--base", "a.pt", "--mix", "b.pt"), "exclude each other"),
        (("--ratio", "0.5"), "go with --mix"),
        (("--keep", "old", "--layout", "apple"), "neither letters nor used"),
        (("--mix", "b.pt", "--keep", "old"), "both --keep and --dataset"),
    ):
        assert message in str(run("convert", "a.pt", *words, "-o", str(tmp_path / "out.pt")).exception)
