"""Exports of a CLIPModel of transformers, as optimum makes them, and of faulty ones.

    python tests/verify/audit/transformers_subjects.py OUT [--faults 3] [--optimum]

writes OUT/clip, a checkpoint of TinyCLIP's ViT-8M/16 in transformers' layout with weights from a seed, and the files;
adds them to OUT/subjects.json, with the checkpoint. `joint` has the inputs and outputs of optimum's CLIPOnnxConfig
(https://github.com/huggingface/optimum-onnx/blob/main/optimum/exporters/onnx/model_configs.py), `vision` and `text`
those of the models "with projection". `optimum` is written by optimum's own exporter: it needs optimum-onnx 0.1.0 and
transformers 4.57, in an environment of their own, since the exporter does not import with transformers 5; and an OUT
of its own, since these packages draw other weights from the seed.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from verify.audit.make_subjects import Convention

from mobileclip_deploy.network.model.variants import load_variant

CARD = load_variant("tinyclip_8m_16")
HOW = Convention(range="clip", batch="free", output="unit")


def saved(folder: Path) -> Any:
    """transformers' own network of the card's shape, its weights spread so that pictures differ."""
    image, text, tokens = CARD.image, CARD.text, CARD.tokens
    assert image.kind == "vit"
    assert text is not None

    def tower(spec: Any) -> dict[str, Any]:
        return {
            "hidden_size": spec.width,
            "intermediate_size": int(spec.width * spec.mlp_ratio),
            "num_hidden_layers": spec.depth,
            "num_attention_heads": spec.heads,
            "hidden_act": spec.activation,
            "projection_dim": CARD.embed_dim,
        }

    words = {"eos_token_id": tokens.eot, "bos_token_id": tokens.sot, "pad_token_id": tokens.eot}
    pixels = {"image_size": CARD.preprocess.size, "patch_size": image.patch}
    config = transformers.CLIPConfig(
        projection_dim=CARD.embed_dim, text_config=tower(text) | words, vision_config=tower(image) | pixels
    )
    config._attn_implementation = "eager"  # as exporters set it
    torch.manual_seed(3)
    model = transformers.CLIPModel(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.03 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


class Joint(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        result = self.model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        return result.logits_per_image, result.logits_per_text, result.text_embeds, result.image_embeds


class Vision(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        pooled = self.model.vision_model(pixel_values=pixel_values)[1]
        return self.model.visual_projection(pooled)


class Text(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model.text_projection(self.model.text_model(input_ids=input_ids)[1])


def set_activation(tower: Any, make: Callable[[], nn.Module]) -> None:
    for layer in tower.encoder.layers:
        layer.mlp.activation_fn = make()


def set_epsilon(tower: Any, eps: float) -> None:
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


FAULTS: dict[str, Callable[[Any], None]] = {
    "image: GELU tanh": lambda m: set_activation(m.vision_model, lambda: nn.GELU(approximate="tanh")),
    "image: LayerNorm epsilon 1e-3": lambda m: set_epsilon(m.vision_model, 1e-3),
    "image: projection transposed": lambda m: setattr(
        m.visual_projection.weight, "data", m.visual_projection.weight.data.T.reshape(CARD.embed_dim, -1).clone()
    ),
    "text: LayerNorm epsilon 1e-3": lambda m: set_epsilon(m.text_model, 1e-3),
    "text: positions cut after 32": lambda m: m.text_model.embeddings.position_embedding.weight.data[32:].zero_(),
    "text: a block left out": lambda m: m.text_model.encoder.layers.__delitem__(1),
}
KINDS: dict[str, tuple[type[nn.Module], tuple[str, ...], tuple[str, ...]]] = {
    "transformers": (
        Joint,
        ("input_ids", "pixel_values", "attention_mask"),
        ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"),
    ),
    "transformers-vision": (Vision, ("pixel_values",), ("image_embeds",)),
    "transformers-text": (Text, ("input_ids",), ("text_embeds",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--faults", type=int, default=len(FAULTS))
    parser.add_argument("--optimum", action="store_true", help="only the files of optimum's own exporter")
    chosen = parser.parse_args()
    model = saved(chosen.out / "clip")
    listing = chosen.out / "subjects.json"
    subjects = json.loads(listing.read_text()) if listing.exists() else []
    size = CARD.preprocess.size
    ids = torch.full((2, 77), 49407)
    ids[:, :3] = torch.tensor([49406, 320, 1125])
    samples = {
        "input_ids": ids,
        "pixel_values": torch.rand(2, 3, size, size),
        "attention_mask": torch.ones(2, 77, dtype=torch.int64),
    }
    kinds = {"optimum": KINDS["transformers"]} if chosen.optimum else KINDS
    for kind, (wrap, inputs, outputs) in kinds.items():
        tower = {"transformers-vision": "image", "transformers-text": "text"}.get(kind)
        faults = [None, *[fault for fault in list(FAULTS)[: chosen.faults] if tower in (None, fault.split(":")[0])]]
        for index, fault in enumerate(faults):
            changed = copy.deepcopy(model)
            if fault is not None:
                FAULTS[fault](changed)
            file = f"{kind}-{index:03}.onnx"
            if chosen.optimum:
                from optimum.exporters.onnx import onnx_export_from_model  # type: ignore[import-not-found]

                folder, task = chosen.out / "optimum", "zero-shot-image-classification"
                onnx_export_from_model(changed, folder, task=task, do_validation=False)
                (folder / "model.onnx").rename(chosen.out / file)
            else:
                # Rows of `attention_mask` and `input_ids` are free, as optimum leaves them.
                free = {name: {0: "images" if name == "pixel_values" else "texts"} for name in inputs}
                arguments = tuple(samples[name] for name in inputs)
                with torch.no_grad():
                    torch.onnx.export(
                        wrap(changed).eval(),
                        arguments,
                        str(chosen.out / file),
                        dynamo=False,
                        opset_version=17,
                        input_names=list(inputs),
                        output_names=list(outputs),
                        dynamic_axes=free,
                    )
            how = HOW if tower is None else Convention(range="clip", batch="free")
            subjects = [subject for subject in subjects if file not in (subject["image"], subject["text"])]
            subjects.append(
                {
                    "image": file if tower != "text" else None,
                    "text": file if tower != "image" else None,
                    "kind": kind,
                    "convention": asdict(how),
                    "fault": fault,
                    "checkpoint": "clip/model.safetensors",
                }
            )
            listing.write_text(json.dumps(subjects, indent=1) + "\n")
            print(f"{file}: {fault or 'clean'}", flush=True)


if __name__ == "__main__":
    main()
