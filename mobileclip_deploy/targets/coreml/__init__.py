"""Core ML: one ML program a tower, with the names and types that Apple's own MobileCLIP packages have."""

from mobileclip_deploy.targets.coreml.target import CoreMLTarget

__all__ = ["CoreMLTarget"]
