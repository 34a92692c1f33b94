"""Attacked images as anomalies: what is attacked, reports of it, and their table."""
