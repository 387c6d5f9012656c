"""Files of segmentations: one registry of formats, for one image or many.

``result.save("out", "photo")`` writes the default formats; ``Exporter("out", ["labels", "coco"])`` writes many images.
Further formats are registered by a function of one image, or by a :class:`Format` where a file holds many images::

    @goca.export.register("scores")
    def write_scores(result, folder, stem):
        path = folder / f"{stem}_scores.npy"
        np.save(path, result.scores)
        return {"scores": path}
"""

from goca.export import pictures
from goca.export.coco import CocoFormat
from goca.export.folder import FolderFormat
from goca.export.parquet import ParquetFormat
from goca.export.registry import DEFAULT_FORMATS, FORMATS, Exporter, Files, Format, register

register("labels", files=pictures.labels_files)(pictures.write_labels)
register("overlay", files=pictures.overlay_files)(pictures.write_overlay)
register("heat", files=pictures.heat_files, earlier=pictures.earlier_heat_maps)(pictures.write_heat_maps)
register("json", files=pictures.description_files)(pictures.write_description)
register("folder")(FolderFormat)
register("coco")(CocoFormat)
register("parquet")(ParquetFormat)

__all__ = ["DEFAULT_FORMATS", "FORMATS", "Exporter", "Files", "Format", "register"]
