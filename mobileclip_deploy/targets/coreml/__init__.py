"""Core ML: one ML program per tower, with the names and types of Apple's own MobileCLIP packages."""

from mobileclip_deploy.targets.coreml.target import CoreMLTarget

__all__ = ["CoreMLTarget"]
