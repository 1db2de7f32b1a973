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

# What each would need beside the executorch wheel; as installed, none of them can be imported or lowers anything.
UNAVAILABLE = {
    "qnn": "Qualcomm's AI Engine Direct SDK (QNN_SDK_ROOT) and executorch built with it",
    "mediatek": "MediaTek's NeuroPilot SDK and its Python packages",
    "openvino": "the openvino package and executorch built with it",
    "ethos-u": "Arm's Vela compiler and TOSA serializer",
    "vgf": "Arm's ML SDK for Vulkan and TOSA serializer",
}


def get_backend(name: str) -> Backend:
    """The backend called `name`, in any capitals.

    Raises:
        UsageError: unknown, or it needs an SDK; the text says which.
    """
    name = name.lower()
    if name in UNAVAILABLE:
        raise UsageError(
            f"backend {name} is not built in: it needs {UNAVAILABLE[name]}; here are {', '.join(BACKENDS)}"
        )
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
