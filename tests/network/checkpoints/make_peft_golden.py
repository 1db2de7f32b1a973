"""Writes adapters of each start and what PEFT itself merges them to: tests/golden/peft-VERSION.safetensors.

python3.11 -m venv venv
venv/bin/pip install . "peft==0.21.2"
venv/bin/python tests/network/checkpoints/make_peft_golden.py

A tensor's name is `CASE/base/...`, `CASE/adapter/...` or `CASE/merged/...`; the metadata has the adapter_config.json of
each case.
"""

import copy
import tempfile
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CASES: dict[str, dict[str, Any]] = {
    "true": {},
    "false": {"init_lora_weights": False},
    "gaussian": {"init_lora_weights": "gaussian", "alpha_pattern": {"0": 5}},
    "eva": {"init_lora_weights": "eva", "rank_pattern": {"0": 3}},
    "olora": {"init_lora_weights": "olora"},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa_niter_4": {"init_lora_weights": "pissa_niter_4"},
    "converted": {"init_lora_weights": "pissa"},
}


def tuned(config: dict[str, Any], folder: Path, *, converted: bool) -> dict[str, Tensor]:
    """Starts an adapter, moves its factors as a training does, saves it and merges it."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 6, bias=False))
    settings = {"r": 2, "lora_alpha": 6, "target_modules": ["0", "2"]} | config
    model: Any = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**settings))
    model.peft_config["default"].init_lora_weights = True  # the start that is saved is not computed again
    model.save_pretrained(folder / "start")
    model.peft_config["default"].init_lora_weights = config.get("init_lora_weights", True)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value += torch.randn_like(value) / 4
    more = {"path_initial_model_for_weight_conversion": str(folder / "start")} if converted else {}
    model.save_pretrained(folder / "adapter", **more)
    tensors = {f"base/{name}": value for name, value in base.state_dict().items()}
    tensors |= {f"adapter/{k}": v for k, v in load_file(folder / "adapter" / "adapter_model.safetensors").items()}
    return tensors | {f"merged/{name}": value for name, value in model.merge_and_unload().state_dict().items()}


if __name__ == "__main__":
    written: dict[str, Tensor] = {}
    configs: dict[str, str] = {}
    for case, config in CASES.items():
        with tempfile.TemporaryDirectory() as name:
            made = tuned(config, Path(name), converted=case == "converted")
            written |= {f"{case}/{key}": value.contiguous() for key, value in made.items()}
            configs[case] = (Path(name) / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    save_file(written, Path(__file__).parents[2] / "golden" / f"peft-{peft.__version__}.safetensors", configs)
