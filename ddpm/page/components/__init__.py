"""The components that lessons share."""
