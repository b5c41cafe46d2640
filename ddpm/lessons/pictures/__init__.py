"""Digits and colour pictures: the reverse process, step by step."""
