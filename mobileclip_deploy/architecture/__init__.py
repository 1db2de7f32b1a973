"""The network in its training form, in pure torch; what the numbers are comes from the variant's card."""

from mobileclip_deploy.architecture.clip import TOWERS, MobileCLIP, build_model

__all__ = ["TOWERS", "MobileCLIP", "build_model"]
