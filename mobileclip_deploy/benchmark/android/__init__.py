"""Android phones over the adb command line: found, described, cooled, measured by the harness in android_harness/."""
