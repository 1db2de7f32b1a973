"""LiteRT (formerly TensorFlow Lite): one `.tflite` per tower, mainly for Android phones."""

from mobileclip_deploy.targets.litert.target import LiteRTTarget

__all__ = ["LiteRTTarget"]
