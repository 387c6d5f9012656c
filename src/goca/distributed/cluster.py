"""Many workers on Ray: what one process does, spread over actors that load the model once.

Ray Data hands every actor one item at a time, gives the work of an actor that dies to another, and starts a new actor
in its place. Workers compute with as many threads as this process, because the rounding of a sum depends on it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from goca._safe_path import safe_path
from goca.datasets.base import Dataset
from goca.evaluation.runner import evaluate_indices
from goca.evaluation.task import ImageResult, Task
from goca.export.parquet import Row, earlier_tables, make_failed_row, make_row, schema
from goca.image_files import IMAGE_SUFFIXES
from goca.images import load_bytes
from goca.lookup import Names, read_names
from goca.messages import sentence
from goca.plugins import load_plugins, loaded_plugins
from goca.ranges import MOST_WORKERS, check_whole
from goca.segment_group import Group, GroupSegmenter, Outcome, Request
from goca.segmenter import Segmenter
from goca.storage.atomic import remove_leftovers, staged_folder
from goca.storage.outputs import refuse_existing

LOCAL = "local"


@dataclass(frozen=True)
class Workers:
    """Processes on a Ray cluster, each with the model on a processor or an accelerator of its own.

    Args:
        model: arguments of :meth:`goca.Segmenter.from_pretrained`, which every worker calls.
        address: of the cluster; :data:`LOCAL` starts one on this machine.
        count: how many work at once.
    """

    model: Mapping[str, Any]
    address: str = LOCAL
    count: int = 2

    def evaluate(self, dataset: Dataset, task: Task, groups: Sequence[range]) -> Iterator[list[ImageResult]]:
        """The results of every group as they finish, in any order: the ``compute`` of
        :meth:`goca.evaluation.experiment.Experiment.run`.

        Raises:
            ValueError: the cluster cannot be reached, or a worker cannot load the model.
        """
        if not groups:
            return
        ray = self.connect()
        rows = [{"first": group.start, "last": group.stop} for group in groups]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        done = self._spread(ray, data, Evaluator, dataset, task)
        try:
            for row in done.iter_rows():
                yield [ImageResult.from_json(entry, task) for entry in json.loads(row["results"])]
        except ray.exceptions.RayError as error:
            raise ValueError(f"the workers gave up: {_reason(error)}") from None

    def segment(
        self,
        sources: str | Sequence[str],
        classes: Names,
        out: str | Path,
        *,
        overwrite: bool = False,
        **options: Any,
    ) -> ParquetSegmentations:
        """Segment images and write a Parquet row for each, see :mod:`goca.export.parquet`: all files or none.

        Args:
            sources: image files or folders, or Parquet files with the columns ``path`` and ``bytes``; paths or
                addresses of a file system that pyarrow knows (``s3://``, ``gs://``).
            out: folder for the Parquet files, new or empty.
            overwrite: replace the Parquet files of an earlier run in ``out``.
            options: further arguments of :meth:`goca.Segmenter.__call__`.

        Raises:
            ValueError: the cluster cannot be reached, nothing to read, or a worker cannot load the model.
            FileExistsError: ``out`` is not empty, and ``overwrite`` is not set or other files lie there.
        """
        earlier = earlier_tables(Path(out))
        refuse_existing(earlier, overwrite)
        remove_leftovers(Path(out), Path(out).parent)
        ray = self.connect()
        request = {"classes": read_names(classes, "class"), **options}
        sources = [sources] if isinstance(sources, str) else sources
        try:
            results = self._spread(ray, _read(ray, sources), ImageSegmenter, request)
            results = results.map_batches(_typed, batch_format="pyarrow").materialize()
            with staged_folder(Path(out), overwrite=overwrite, stale=earlier) as scratch:
                results.write_parquet(str(scratch.resolve()))
            rows = results.select_columns(["path", "error"]).take_all()
        except ray.exceptions.RayError as error:
            raise ValueError(f"the workers gave up: {_reason(error)}") from None
        failures = sorted((row["path"], row["error"]) for row in rows if row["error"])
        return ParquetSegmentations(len(rows), tuple(failures))

    def segment_groups(self, groups: Sequence[Group], request: Request) -> Iterator[list[Outcome]]:
        """The outcomes of groups of image files as they finish, in any order: the ``compute`` of
        :func:`goca.segment_many.segment_many`. Workers read the files themselves.

        Raises:
            ValueError: the cluster cannot be reached, or a worker cannot load the model.
        """
        if not groups:
            return
        ray = self.connect()
        rows = [{"group": pickle.dumps(list(group))} for group in groups]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        try:
            for row in self._spread(ray, data, GroupWorker, request).iter_rows():
                yield pickle.loads(row["outcomes"])
        except ray.exceptions.RayError as error:
            raise ValueError(f"the workers gave up: {_reason(error)}") from None

    def connect(self) -> Any:
        """The module ``ray``, connected to the cluster.

        Raises:
            ValueError: Ray is not installed, no cluster answers, or no worker is asked for.
        """
        check_whole("the number of workers", self.count, 1, MOST_WORKERS)
        try:
            import ray
        except ImportError:
            raise ValueError("working on several processes or machines needs Ray; pip install 'goca[ray]'") from None
        names = loaded_plugins()
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        options["runtime_env"] = {"worker_process_setup_hook": lambda: load_plugins(names)} if names else {}
        if not ray.is_initialized():
            try:
                if not self.address.startswith("ray://"):  # whose server decides on the search path
                    options["job_config"] = _job_config(ray)
                if self.address == LOCAL:
                    ray.init(num_cpus=self.count + 1, include_dashboard=False, **options)
                else:
                    ray.init(address=self.address, **options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise ValueError(
                    f"no Ray cluster answers at {self.address} ({error}); start one with 'ray start'"
                ) from None
        ray.data.DataContext.get_current().enable_progress_bars = False
        return ray

    def _spread(self, ray: Any, data: Any, worker: type, *arguments: Any) -> Any:
        """``data`` with ``worker`` called on every row, on :attr:`count` actors at once."""
        accelerators = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else None
        pool = ray.data.ActorPoolStrategy(size=self.count)
        arguments = (dict(self.model), torch.get_num_threads(), *arguments)
        return data.map(worker, fn_constructor_args=arguments, compute=pool, num_cpus=1, num_gpus=accelerators)


@dataclass(frozen=True)
class ParquetSegmentations:
    """How many images there were, and (path, reason) of those that failed."""

    count: int
    failures: tuple[tuple[str, str], ...]


class Evaluator:
    """An actor that evaluates groups of images, see :func:`goca.evaluation.runner.evaluate_indices`."""

    def __init__(self, model: Mapping[str, Any], threads: int, dataset: Dataset, task: Task) -> None:
        torch.set_num_threads(threads)
        self.segmenter = Segmenter.from_pretrained(**model)
        self.dataset, self.task = dataset, task

    def __call__(self, group: Row) -> Row:
        found = evaluate_indices(self.segmenter, self.dataset, range(group["first"], group["last"]), self.task)
        return {"results": json.dumps([result.to_json() for result in found])}


class GroupWorker:
    """An actor that segments groups of image files, see :class:`goca.segment_group.GroupSegmenter`."""

    def __init__(self, model: Mapping[str, Any], threads: int, request: Request) -> None:
        torch.set_num_threads(threads)
        self.segment = GroupSegmenter(Segmenter.from_pretrained(**model), request)

    def __call__(self, row: Row) -> Row:
        return {"outcomes": pickle.dumps(self.segment(pickle.loads(row["group"])))}


class ImageSegmenter:
    """An actor that segments one image, given as ``path`` and ``bytes``; ``request`` are the arguments of the call."""

    def __init__(self, model: Mapping[str, Any], threads: int, request: Mapping[str, Any]) -> None:
        torch.set_num_threads(threads)
        self.segmenter = Segmenter.from_pretrained(**model)
        self.request = request

    def __call__(self, row: Row) -> Row:
        try:
            image = load_bytes(row["bytes"], row["path"])
            return make_row(row["path"], self.segmenter(image, **self.request))
        except (ValueError, OSError, MemoryError) as error:
            return make_failed_row(row["path"], sentence(error))


def _job_config(ray: Any) -> Any:
    """Settings by which workers import code from where this process does; Ray would add the current folder, first."""
    config = ray.job_config.JobConfig(_py_driver_sys_path=safe_path()[::-1])  # each is put before the others
    config._runtime_env_has_working_dir = lambda: True
    return config


def _typed(table: Any) -> Any:
    """The columns in order with their types, which an image that failed does not tell."""
    columns = schema()
    return table.select(columns.names).cast(columns)


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
        suffixes = [suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES] if folders else None
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
