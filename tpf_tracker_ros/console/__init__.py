"""A page in the browser that shows what the tracker sees and steers it."""
