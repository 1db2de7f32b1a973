"""What of an ML program is ready for the Neural Engine, what is at risk, and what will leave it, by public sources.

    from mobileclip_deploy.targets.mil import load
    from mobileclip_deploy.targets.mil.lint.rules import lint

    report = lint(load("image.mlpackage", evaluate=False), device="a15")
    print(report.share("leaves").operations, report.findings)

No one can promise residency without the device: Apple publishes no list, and Core ML decides on the device by a cost
model of its own. A rule here is a statement of a named public source about one op; "ready" means that no source that is
known here speaks against it.
"""
