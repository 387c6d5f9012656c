"""Files of segmentations: one registry of formats, for one image or many.

``result.save("out", "photo")`` writes the default formats; ``Exporter("out", ["labels", "coco"])`` writes many images.
Further formats are registered by a function of one image, or by a :class:`Format` where a file holds many images::

    @goca.export.register("scores")
    def write_scores(result, folder, stem):
        path = folder / f"{stem}_scores.npy"
        np.save(path, result.scores)
        return {"scores": path}
"""

from goca.export import arrays, geojson, pictures
from goca.export.coco import CocoFormat
from goca.export.cvat import CvatFormat
from goca.export.fiftyone import FiftyOneFormat
from goca.export.folder import FolderFormat
from goca.export.huggingface import HuggingFaceFormat
from goca.export.label_studio import LabelStudioFormat
from goca.export.panoptic import PanopticFormat
from goca.export.parquet import ParquetFormat
from goca.export.registry import DEFAULT_FORMATS, FORMATS, Exporter, Files, Format, register
from goca.export.voc import VocFormat
from goca.export.yolo import YoloFormat

register("labels", files=pictures.labels_files)(pictures.write_labels)
register("overlay", files=pictures.overlay_files)(pictures.write_overlay)
register("heat", files=pictures.heat_files, earlier=pictures.earlier_heat_maps)(pictures.write_heat_maps)
register("json", files=pictures.description_files)(pictures.write_description)
register("html", files=pictures.page_files)(pictures.write_page)
register("folder")(FolderFormat)
register("coco")(CocoFormat)
register("parquet")(ParquetFormat)
register("npz", files=arrays.npz_files)(arrays.write_npz)
register("geojson", files=geojson.geojson_files)(geojson.write_geojson)
register("coco-panoptic")(PanopticFormat)
register("voc")(VocFormat)
register("cvat")(CvatFormat)
register("yolo")(YoloFormat)
register("label-studio")(LabelStudioFormat)
register("fiftyone")(FiftyOneFormat)
register("huggingface")(HuggingFaceFormat)

__all__ = ["DEFAULT_FORMATS", "FORMATS", "Exporter", "Files", "Format", "register"]
