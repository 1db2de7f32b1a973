"""preprocessor_config.json: how clients of the Hugging Face libraries prepare images."""

from __future__ import annotations

import json
from pathlib import Path

from mobileclip_deploy.model.variants import Preprocess

__all__ = ["NAME", "preprocessor_config", "write_preprocessor_config"]

NAME = "preprocessor_config.json"
PIL_RESAMPLING = {"bilinear": 2, "bicubic": 3}


def write_preprocessor_config(folder: Path, spec: Preprocess) -> None:
    """Write it into a bundle's folder."""
    (folder / NAME).write_text(json.dumps(preprocessor_config(spec), indent=2) + "\n", encoding="utf-8")


def preprocessor_config(spec: Preprocess) -> dict[str, object]:
    """transformers' CLIPImageProcessor. It does not normalize: mean and std stand in the graph."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": spec.resized},
        "resample": PIL_RESAMPLING[spec.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": spec.size, "width": spec.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
    }
