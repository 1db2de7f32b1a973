"""The network in its training form, in pure torch; what the numbers are comes from the variant's card."""

from mobileclip_deploy.model.architecture.clip import LARGEST_LOGIT_FACTOR, MobileCLIP, build_model

__all__ = ["LARGEST_LOGIT_FACTOR", "MobileCLIP", "build_model"]
