"""Lint of an ML program for the Neural Engine by public sources: ops that are ready, at risk, or will leave it.

    from mobileclip_deploy.targets.mil import load
    from mobileclip_deploy.targets.mil.lint.rules import lint

    report = lint(load("image.mlpackage", evaluate=False), device="a15")
    print(report.share("leaves").operations, report.findings)

No one can promise residency without the device: Apple publishes no list, and Core ML decides on the device by its own
cost model. A rule here is a statement of a named public source about one op. "ready" means that no known source speaks
against it.
"""
