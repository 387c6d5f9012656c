"""The shipped models: their weights, their training, and the network that parses drawn scenes."""
