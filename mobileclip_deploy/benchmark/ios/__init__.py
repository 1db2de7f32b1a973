"""Benchmark of iPhone, iPad and Mac by the Swift harness, with `xcodebuild` and `xcrun devicectl`."""
