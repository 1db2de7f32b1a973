"""Backends that a tower can be lowered to, and those that need more than the wheel holds."""

from __future__ import annotations

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.targets.executorch.backends.base import Backend
from mobileclip_deploy.targets.executorch.backends.coreml import CoreMLBackend
from mobileclip_deploy.targets.executorch.backends.vulkan import VulkanBackend
from mobileclip_deploy.targets.executorch.backends.xnnpack import XnnpackBackend

__all__ = ["BACKENDS", "DEFAULT_BACKEND", "UNAVAILABLE", "Backend", "get_backend", "parse_backends"]

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (XnnpackBackend(), CoreMLBackend(), VulkanBackend())
}

DEFAULT_BACKEND = XnnpackBackend.name

# Backends of ExecuTorch 1.5.1 that this toolkit does not export to, and what each needs beside the wheel. With these
# packages the wheel lowers to openvino, ethos-u and vgf; running openvino's program crashed here, and qnn's lowering
# stops at "unknown custom config socModel 0" with QAIRT 2.47 and 2.51.
UNAVAILABLE = {
    "qnn": "Qualcomm's AI Engine Direct SDK (QNN_SDK_ROOT), of the version that executorch was built for",
    "mediatek": "MediaTek's NeuroPilot SDK and its Python packages",
    "openvino": "the packages openvino and nncf",
    "ethos-u": "the packages ethos-u-vela and tosa-tools",
    "vgf": "the packages ai-ml-sdk-model-converter and tosa-tools",
}


def get_backend(name: str) -> Backend:
    """The backend called `name`, in any capitals.

    Raises:
        UsageError: unknown, or it needs an SDK; the text says which.
    """
    name = name.lower()
    if name in UNAVAILABLE:
        raise UsageError(f"backend {name} is not offered: it needs {UNAVAILABLE[name]}; here are {', '.join(BACKENDS)}")
    if name not in BACKENDS:
        close = suggestion(name, (*BACKENDS, *UNAVAILABLE))
        raise UsageError(f"unknown backend {name!r}{close}; known: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def parse_backends(text: str) -> list[str]:
    """`xnnpack,coreml` -> names, each once, in the order named.

    Raises:
        UsageError: see `get_backend`.
    """
    return list(dict.fromkeys(get_backend(part.strip()).name for part in text.split(",")))
