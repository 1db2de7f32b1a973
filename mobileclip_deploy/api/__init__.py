"""The public functions, in the order in which a script calls them; `import mobileclip_deploy` offers them all."""

from __future__ import annotations

from mobileclip_deploy.api.bundles import explain, export, export_smallest, load_runner, verify
from mobileclip_deploy.api.learning import recover, reinforce, train
from mobileclip_deploy.api.measuring import compare, embed, evaluate
from mobileclip_deploy.api.models import accuracy_dataset, find_checkpoint, load_model, reparameterize
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import MobileClipDeployError
from mobileclip_deploy.folding import FoldReport
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.parity import ParityReport
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.verify.baselines import accept_baseline, check_baseline

__all__ = [
    "Bundle",
    "FoldReport",
    "MobileCLIP",
    "MobileClipDeployError",
    "ParityReport",
    "Runner",
    "accept_baseline",
    "accuracy_dataset",
    "check_baseline",
    "compare",
    "embed",
    "evaluate",
    "explain",
    "export",
    "export_smallest",
    "find_checkpoint",
    "load_model",
    "load_runner",
    "recover",
    "reinforce",
    "reparameterize",
    "train",
    "verify",
]
