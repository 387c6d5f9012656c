"""Golden files: recorded inputs and the published code's results on them."""
