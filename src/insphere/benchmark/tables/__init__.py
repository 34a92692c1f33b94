"""What documents show, made from reports alone: tables, figures, comparisons, next to published values."""
