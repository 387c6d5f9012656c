"""Caption sources, and alignment of captions with the classes of a data set."""

from goca.captioning.request import name_classes
from goca.storage.captions import Mismatch, check_captions, load_captions, save_captions
from goca.text.align import Aligned, align

__all__ = ["Aligned", "Mismatch", "align", "check_captions", "load_captions", "name_classes", "save_captions"]
