"""The page: one module a lesson."""
