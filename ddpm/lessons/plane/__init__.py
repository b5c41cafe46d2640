"""In the plane: noise flows into a shape."""
