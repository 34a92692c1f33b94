"""Choosing among detectors and settings with scikit-learn's tools, in the one-class way: fit on normal rows, judge by labels."""

from insphere.selection.cross_validation import OneClassKFold, auroc_scorer, average_precision_scorer

__all__ = ["OneClassKFold", "auroc_scorer", "average_precision_scorer"]
