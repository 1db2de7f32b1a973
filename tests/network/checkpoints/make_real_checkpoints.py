"""Writes every kind of checkpoint that people have, by the libraries that write them, from a random MobileCLIP2-S0.

python3.11 -m venv venv
venv/bin/pip install . "open_clip_torch[training]==3.3.*" "peft==0.21.*" "lightning==2.6.*" "transformers==5.*"
venv/bin/python tests/network/checkpoints/make_real_checkpoints.py FOLDER
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import lightning
import open_clip
import torch
from huggingface_hub import save_torch_state_dict
from open_clip_round_trip import train
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPConfig, CLIPModel

CLASSES = 10
KINDS = (
    "epoch_1.pt",
    "distributed.pt",
    "compiled.pt",
    "averaged.pt",
    "bfloat16.safetensors",
    "sharded",
    "peft_merged.pt",
    "adapter",
    "adapter_mlp.pt",
    "probe.pt",
    "wise_ft.pt",
    "visual.pt",
    "lightning.ckpt",
    "pickled.pt",
    "rn50.pt",
    "vit_b_32_256.safetensors",
    "clip_model",
    "nan.pt",
    "page.pt",
)


class Probe(nn.Module):
    """A linear probe as people write it: a frozen image tower, and a layer of class scores."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.fc = backbone.requires_grad_(False), nn.Linear(width, CLASSES)


class ImageEncoder(nn.Module):
    """As src/models/modeling.py of mlfoundations/wise-ft."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class ImageClassifier(nn.Module):
    """As src/models/modeling.py of mlfoundations/wise-ft: the head takes embeddings of length 1."""

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.image_encoder, self.classification_head = ImageEncoder(model), nn.Linear(width, CLASSES)


class Module(lightning.LightningModule):
    """A fine-tune in Lightning: one step of CLIP's loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, texts, scale = self.model(*batch)[:3]
        return nn.functional.cross_entropy(scale * images @ texts.T, torch.arange(len(images)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = open_clip.create_model("MobileCLIP2-S0").eval()
    width = 512
    save_file(model.state_dict(), folder / "base.safetensors")

    batch = torch.rand(2, 3, 256, 256), open_clip.get_tokenizer("MobileCLIP2-S0")(["a cat", "a dog"])
    if not (folder / "epoch_1.pt").is_file():  # minutes, where other programs run
        train(folder, "plain")  # two steps by open_clip's own program

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder.absolute()}/.rank", rank=0, world_size=1)
    parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
    torch.save(parallel.state_dict(), folder / "distributed.pt")
    torch.distributed.destroy_process_group()
    torch.save(torch.compile(model).state_dict(), folder / "compiled.pt")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    torch.save({"model": model.state_dict(), "model_ema": average.state_dict()}, folder / "averaged.pt")
    save_file({name: value.bfloat16() for name, value in model.state_dict().items()}, folder / "bfloat16.safetensors")
    (folder / "sharded").mkdir(exist_ok=True)
    save_torch_state_dict(model.state_dict(), folder / "sharded", max_shard_size="80MB")

    layers = ["fc1", "fc2", "c_fc", "c_proj", "qkv", "attn"]
    # As people do: r 8 on the linear layers of both towers, the temperature trained whole.
    config = LoraConfig(r=8, lora_alpha=16, target_modules=layers, init_lora_weights=False)
    tuned = get_peft_model(copy.deepcopy(model), config)
    tuned.save_pretrained(folder / "adapter")
    torch.save(tuned.state_dict(), folder / "peft_unmerged.pt")
    merged = tuned.merge_and_unload()
    save_file(merged.state_dict(), folder / "merged_by_peft.safetensors")
    tuned.base_model.model = merged
    torch.save(tuned.state_dict(), folder / "peft_merged.pt")

    torch.save(
        {"adapter.fc.0.weight": torch.rand(128, 512), "adapter.fc.2.weight": torch.rand(512, 128)},
        folder / "adapter_mlp.pt",
    )
    torch.save(Probe(model.visual, width).state_dict(), folder / "probe.pt")
    torch.save(ImageClassifier(model, width).state_dict(), folder / "wise_ft.pt")
    torch.save(model.visual.state_dict(), folder / "visual.pt")
    torch.save(model, folder / "pickled.pt")

    module = Module(copy.deepcopy(model))
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, torch.utils.data.DataLoader([(batch[0][0], batch[1][0]), (batch[0][1], batch[1][1])], 2))
    trainer.save_checkpoint(folder / "lightning.ckpt")

    torch.save(open_clip.create_model("RN50").state_dict(), folder / "rn50.pt")
    small = open_clip.create_model("ViT-B-32-256").half().state_dict()
    save_file(small, folder / "vit_b_32_256.safetensors")
    CLIPModel(_small_clip()).half().save_pretrained(folder / "clip_model")

    broken: dict[str, Any] = model.state_dict() | {"visual.trunk.head.fc.bias": torch.full((512,), torch.nan)}
    torch.save(broken, folder / "nan.pt")
    (folder / "page.pt").write_text("<!DOCTYPE html><html><head><title>Sign in</title></head></html>\n")
    (folder / "kinds.json").write_text(json.dumps(KINDS))


def _small_clip() -> CLIPConfig:
    """OpenAI's ViT-B/16 as TinyCLIP cuts it (wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M)."""
    vision = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 10, "num_attention_heads": 4}
    text = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 3, "num_attention_heads": 4}
    return CLIPConfig(vision_config=vision | {"patch_size": 16}, text_config=text, projection_dim=512)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
