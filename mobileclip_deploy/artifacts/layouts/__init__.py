"""Layouts: how an app that exists wants its files called, its tensors named, and what stands beside them; as data."""

from mobileclip_deploy.artifacts.layouts.layout import Layout, TensorLayout
from mobileclip_deploy.artifacts.layouts.layout_files import (
    default_layout,
    layout_names,
    layouts,
    packaged_layout,
    read_layout,
    write_side_files,
)

__all__ = [
    "Layout",
    "TensorLayout",
    "default_layout",
    "layout_names",
    "layouts",
    "packaged_layout",
    "read_layout",
    "write_side_files",
]
