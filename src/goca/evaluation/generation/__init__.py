"""How good are generated images? Distances to real ones, object recall, and masks."""
