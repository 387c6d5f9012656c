"""Asking a folder or the Hugging Face hub what a model is, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goca.messages import one_line
from goca.storage.json_reader import read_json


def pipeline_index(source: str, revision: str | None) -> dict[str, Any]:
    """The pipeline's own model_index.json: ``_class_name``, and each component's library and class."""
    if Path(source).is_dir():
        index = Path(source) / "model_index.json"
        if not index.is_file():
            raise ValueError(
                f"{source} has no model_index.json; give the folder that pipeline.save_pretrained() wrote."
            )
    else:
        from huggingface_hub import hf_hub_download

        with hub_errors(source):
            index = Path(hf_hub_download(source, "model_index.json", revision=revision))
    content = read_json(index)
    if not isinstance(content, dict) or not isinstance(content.get("_class_name"), str):
        raise ValueError(f'{index} names no pipeline under "_class_name"; get or save the pipeline again')
    return content


@contextmanager
def hub_errors(source: str) -> Iterator[None]:
    """Turn the hub's many exceptions into one sentence that says what to do."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise OSError(
            f"{source} is gated; accept its licence at https://huggingface.co/{source} and log in with 'hf auth login'."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise OSError(
            f"{source} (or this revision of it) is not on the Hugging Face hub; "
            "check the spelling or give a local folder."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise OSError(
            f"{source} is not in the local cache and the Hugging Face hub cannot be reached; "
            f"download it elsewhere with 'hf download {source} --local-dir FOLDER' and give that folder instead."
        ) from error
    except EntryNotFoundError as error:
        raise OSError(
            f"{source} is no diffusers pipeline (no model_index.json); choose a repository that has one."
        ) from error
    except OSError as error:
        raise OSError(
            f"{source} could not be loaded completely ({error}); "
            "try again with a connection or give a complete local folder."
        ) from error
    except (RuntimeError, NotImplementedError, LookupError, TypeError, AttributeError, ValueError) as error:
        if "memory" in str(error).lower():
            raise
        raise ValueError(
            f"{source} holds a configuration or weights that do not fit each other "
            f"({one_line(f'{type(error).__name__}: {error}', 240)}); get the model again"
        ) from error
