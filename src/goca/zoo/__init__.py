"""Training of the embedded models, and their weights."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
