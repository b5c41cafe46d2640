"""What lessons share in the browser."""
