"""LiteRT (formerly TensorFlow Lite): one `.tflite` a tower, for Android phones above all."""

from mobileclip_deploy.targets.litert.target import LiteRTTarget

__all__ = ["LiteRTTarget"]
