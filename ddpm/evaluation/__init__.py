"""Evaluation: judges of samples, their reports."""
