"""TorchScript: a traced tower in one file, for apps that load it with `torch.jit.load`."""

from mobileclip_deploy.targets.torchscript.target import TorchScriptTarget

__all__ = ["TorchScriptTarget"]
