"""Who says what is in an image, and which classes of a data set that names."""

from goca.captioning.align import Aligned, align
from goca.captioning.files import Mismatch, check_captions, load_captions, save_captions
from goca.captioning.request import name_classes

__all__ = ["Aligned", "Mismatch", "align", "check_captions", "load_captions", "name_classes", "save_captions"]
