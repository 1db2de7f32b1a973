"""TorchScript: a traced tower in one file, for apps that load it with `torch.jit.load`.

pip install examples/third_party_target
mobileclip-deploy export --target torchscript -o out/     # and verify, inspect, evaluate, compare, benchmark, doctor
"""

from mobileclip_torchscript.target import TorchScriptTarget

__all__ = ["TorchScriptTarget"]
