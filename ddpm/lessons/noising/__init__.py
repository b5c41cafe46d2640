"""Noising: a picture disappears in noise."""
