"""Layouts: an app's names of files and tensors, and the files next to them, as data."""

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
