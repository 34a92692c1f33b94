"""Images in bulk, on one machine or many: listed once, scored by an engine that exists, written as Parquet parts, whole or not at all."""

from insphere.scoring.bulk import BulkOptions, BulkProgress, BulkSummary, score_in_bulk
from insphere.scoring.engines import ENGINES

__all__ = ["ENGINES", "BulkOptions", "BulkProgress", "BulkSummary", "score_in_bulk"]
