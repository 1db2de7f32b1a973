"""Reports on verified bundles: results of several, comparisons, explanations."""
