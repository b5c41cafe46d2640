"""Schedules: all beside each other, and one of the visitor’s own."""
