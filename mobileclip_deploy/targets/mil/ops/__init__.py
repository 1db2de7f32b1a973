"""Definitions of the ops that packages of MobileCLIP use, in the forms that occur there.

coremltools writes these ops for image towers, text towers and classifiers of every variant, at every precision and
deployment target of this package. Importing this package fills the table `OPS`. A package with any other op can be
inspected and linted, but not evaluated.
"""

from mobileclip_deploy.targets.mil.ops import axes, pointwise, products
from mobileclip_deploy.targets.mil.ops.registry import OPS, Kernel, Parameter

__all__ = ["OPS", "Kernel", "Parameter", "axes", "pointwise", "products"]
