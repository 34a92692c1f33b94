"""Runs of any detectors on any data, resumable, one report each; tables and figures are made from the reports alone."""
