"""Exported files: towers, the layouts of their names, and the bundle that contains them."""
