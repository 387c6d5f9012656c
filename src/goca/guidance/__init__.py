"""Images drawn with guidance that their own segmentation steers, and segmented while they are drawn."""

from goca.guidance.semantic import MASKS, SemanticGuidance

__all__ = ["MASKS", "SemanticGuidance"]
