"""The network in its training form, in pure torch; all sizes come from the variant's card."""

from mobileclip_deploy.network.model.architecture.clip import (
    FIRST_LOGIT_BIAS,
    LARGEST_LOGIT_FACTOR,
    MobileCLIP,
    build_model,
)

__all__ = ["FIRST_LOGIT_BIAS", "LARGEST_LOGIT_FACTOR", "MobileCLIP", "build_model"]
