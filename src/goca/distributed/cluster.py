"""Many workers on Ray: what one process does, spread over actors that load the model once.

Ray Data hands every actor one item at a time, gives the work of an actor that dies to another, and starts a new actor
in its place. Workers compute with as many threads as this process, because the last bits of a sum depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from goca.cli.common import load_segmenter
from goca.datasets.base import Dataset
from goca.evaluation.runner import evaluate_indices
from goca.evaluation.task import ImageResult, Task
from goca.images import read_image
from goca.render import run_lengths

LOCAL = "local"
IMAGE_SUFFIXES = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"]
Row = dict[str, Any]


class Evaluator:
    """An actor that evaluates groups of images, see :func:`goca.evaluation.runner.evaluate_indices`."""

    def __init__(self, model: Mapping[str, Any], threads: int, dataset: Dataset, task: Task) -> None:
        torch.set_num_threads(threads)
        self.segmenter = load_segmenter(**model)
        self.dataset, self.task = dataset, task

    def __call__(self, group: Row) -> Row:
        found = evaluate_indices(self.segmenter, self.dataset, range(group["first"], group["last"]), self.task)
        return {"records": json.dumps([record.to_json() for record in found])}


class ImageSegmenter:
    """An actor that segments one image, given as ``path`` and ``bytes``; ``request`` are the arguments of the call."""

    def __init__(self, model: Mapping[str, Any], threads: int, request: Mapping[str, Any]) -> None:
        torch.set_num_threads(threads)
        self.segmenter = load_segmenter(**model)
        self.request = request

    def __call__(self, row: Row) -> Row:
        empty = {"height": 0, "width": 0, "classes": [], "labels": b"", "rle": "", "notes": []}
        try:
            result = self.segmenter(read_bytes(row["path"], row["bytes"]), **self.request)
        except (ValueError, OSError) as error:
            return {"path": row["path"], **empty, "error": str(error)}
        labels = BytesIO()
        result.label_image().save(labels, "PNG")
        masks = {name: run_lengths(result.labels == index) for index, name in enumerate(result.classes)}
        return {
            "path": row["path"],
            "height": result.image.height,
            "width": result.image.width,
            "classes": list(result.classes),
            "labels": labels.getvalue(),
            "rle": json.dumps(masks),
            "notes": list(result.notes),
            "error": "",
        }


def read_bytes(name: str, content: bytes) -> Image.Image:
    """The image in the bytes of a file.

    Raises:
        ValueError: they are no image, or damaged.
    """
    try:
        picture = Image.open(BytesIO(content))
        picture.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f"{name} is no image, or damaged ({error}); copy or download it again") from None
    return read_image(picture)


def connect(address: str, workers: int) -> Any:
    """The module ``ray``, connected to the cluster at ``address``, or to one of its own on this machine ("local").

    Raises:
        ValueError: Ray is not installed, no cluster answers, or no worker is asked for.
    """
    if workers < 1:
        raise ValueError(f"the number of workers must be at least 1, not {workers}")
    try:
        import ray
    except ImportError:
        raise ValueError("working on several processes or machines needs Ray; pip install 'goca[ray]'") from None
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if not ray.is_initialized():
        try:
            if address == LOCAL:
                ray.init(num_cpus=workers + 1, include_dashboard=False, **quiet)
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"no Ray cluster answers at {address} ({error}); start one with 'ray start'") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray


def spread(ray: Any, data: Any, worker: type, arguments: Sequence[Any], workers: int) -> Any:
    """``data`` with ``worker`` called on every row, on ``workers`` actors at once."""
    accelerators = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else None
    pool = ray.data.ActorPoolStrategy(size=workers)
    return data.map(worker, fn_constructor_args=tuple(arguments), compute=pool, num_cpus=1, num_gpus=accelerators)


def evaluate_groups(
    groups: Sequence[range], model: Mapping[str, Any], dataset: Dataset, task: Task, *, address: str, workers: int
) -> Iterator[list[ImageResult]]:
    """The records of every group as they finish, in any order.

    Args:
        model: arguments of :func:`goca.cli.common.load_segmenter`.

    Raises:
        ValueError: the cluster cannot be reached, or a worker cannot load the model.
    """
    if not groups:
        return
    ray = connect(address, workers)
    rows = [{"first": group.start, "last": group.stop} for group in groups]
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = spread(ray, data, Evaluator, (dict(model), torch.get_num_threads(), dataset, task), workers)
    try:
        for row in done.iter_rows():
            yield [ImageResult.from_json(entry, task) for entry in json.loads(row["records"])]
    except ray.exceptions.RayError as error:
        raise ValueError(f"the workers gave up: {_reason(error)}") from None


def segment_files(
    sources: Sequence[str],
    model: Mapping[str, Any],
    request: Mapping[str, Any],
    out: str,
    *,
    address: str,
    workers: int,
) -> tuple[int, list[tuple[str, str]]]:
    """Segment images and write one Parquet row for each: path, height, width, classes, labels (an indexed PNG), rle
    (COCO run lengths by class, JSON), notes, error.

    Args:
        sources: image files or folders, or Parquet files with the columns ``path`` and ``bytes``; paths or addresses
            of a file system that pyarrow knows (``s3://``, ``gs://``).
        request: arguments of :meth:`goca.Segmenter.__call__` beside the images.
        out: folder for the Parquet files, new or empty.

    Returns:
        how many images there were, and (path, reason) of those that failed.

    Raises:
        ValueError: the cluster cannot be reached, nothing to read, or a worker cannot load the model.
    """
    if Path(out).is_dir() and any(Path(out).iterdir()):
        raise ValueError(f"{out} is not empty; name a new folder with --out")
    ray = connect(address, workers)
    try:
        data = _read(ray, sources)
        results = spread(ray, data, ImageSegmenter, (dict(model), torch.get_num_threads(), dict(request)), workers)
        results = results.map_batches(_typed, batch_format="pyarrow").materialize()
        results.write_parquet(out)
        rows = results.select_columns(["path", "error"]).take_all()
    except ray.exceptions.RayError as error:
        raise ValueError(f"the workers gave up: {_reason(error)}") from None
    return len(rows), sorted((row["path"], row["error"]) for row in rows if row["error"])


def _typed(table: Any) -> Any:
    """The columns in order with their types, which an image that failed does not tell."""
    import pyarrow as pa

    text, words, number = pa.string(), pa.list_(pa.string()), pa.int64()
    kinds = {"path": text, "height": number, "width": number, "classes": words, "labels": pa.binary()}
    kinds |= {"rle": text, "notes": words, "error": text}
    return table.select(list(kinds)).cast(pa.schema(kinds))


def _read(ray: Any, sources: Sequence[str]) -> Any:
    tables = [source for source in sources if source.endswith(".parquet")]
    if tables and len(tables) != len(sources):
        raise ValueError("images and Parquet files cannot be mixed; segment them one after the other")
    try:
        if tables:
            data = ray.data.read_parquet(tables)
            missing = {"path", "bytes"} - set(data.schema().names)
            if missing:
                raise ValueError(f"{tables[0]} has no column {' and '.join(sorted(missing))}; it needs path and bytes")
            return data.repartition(max(1, data.count()))
        folders = all(Path(source).is_dir() for source in sources)
        suffixes = IMAGE_SUFFIXES if folders else None
        data = ray.data.read_binary_files(list(sources), include_paths=True, file_extensions=suffixes)
        count = data.count()
    except (FileNotFoundError, OSError) as error:
        raise ValueError(f"cannot read {', '.join(sources)} ({error}); check the path") from None
    if count == 0:
        raise ValueError(f"{', '.join(sources)} holds no images")
    return data.repartition(count)


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return next((line for line in reversed(str(cause).splitlines()) if line.strip()), type(cause).__name__)
