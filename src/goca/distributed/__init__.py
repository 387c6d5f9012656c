"""Work on many processes or machines, with Ray."""
