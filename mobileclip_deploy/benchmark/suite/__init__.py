"""Suites: lists of datasets with the metric of each, such as DataComp's 38, and published figures for comparison."""
