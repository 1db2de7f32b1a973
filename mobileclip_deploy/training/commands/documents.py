"""Documents that the commands of this wing print with --json, for the published schemas."""

from __future__ import annotations

from typing import Any

from mobileclip_deploy.cli.schemas import widened
from mobileclip_deploy.training.language.distilling import DistilledTower
from mobileclip_deploy.training.reinforcement.index import ShardIndex
from mobileclip_deploy.training.trainer.running import Trained

ReinforcedDocument = widened(
    "ReinforcedDocument",
    ShardIndex,
    "The dataset at `output`, with its index; shards `made` now, and those `kept` from an earlier run.",
    without=("shards",),
    every=True,
    format=str,
    version=int,
    dtype=str,
    output=str,
    made=int,
    kept=int,
)
TextTowerDocument = widened(
    "TextTowerDocument",
    DistilledTower,
    "Result of `train --text-tower`. `output`: the checkpoint. `log`: held-out recall by language. `pairs`: number of "
    "learned pairs, by language; `left_out`: texts, by reason. `vocabulary`: its tokens.",
    without=("weights",),
    output=str,
)
TrainedDocument = widened(
    "TrainedDocument",
    Trained,
    "`output`: the trained weights. `resumed_at`: step at which the training resumed, 0 from the start. `left_out`: "
    "samples left out of published shards, null for other data.",
    without=("folder", "weights"),
    output=str,
)

DOCUMENTS: dict[str, Any] = {
    "reinforce": ReinforcedDocument,
    "train": TrainedDocument | TextTowerDocument,
}
