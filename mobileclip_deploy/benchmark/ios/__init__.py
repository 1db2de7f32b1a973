"""iPhone, iPad and Mac: the Swift harness, built, run and fetched by `xcodebuild` and `xcrun devicectl`."""
