"""Benchmark of Android phones over the adb command line. The harness in android_harness/ measures on the phone."""
