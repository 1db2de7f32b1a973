"""The network in its training form, in pure torch; what the numbers are comes from the variant's card."""

from mobileclip_deploy.model.architecture.clip import MobileCLIP, build_model

__all__ = ["MobileCLIP", "build_model"]
