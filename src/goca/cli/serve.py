"""``goca serve``: the page and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from goca.cli.common import clean_stdout, say, split_list
from goca.cli.options import ModelsOptions, PresetOption
from goca.ranges import LARGEST_COUNT, LONGEST_WAIT, MOST_AT_ONCE, SHORTEST_WAIT

if TYPE_CHECKING:
    from goca.segmenter import Segmenter

MIB = 2**20
MILLION = 1_000_000


def serve(
    model: ModelsOptions,
    preset: PresetOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at. The default is for this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8642,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Further names by which callers may address the service.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Requests that may wait; more get 429.")] = 32,
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_AT_ONCE, help="Equal requests that share a forward. Default: 1 on a CPU, else 8."),
    ] = None,
    limit_mib: Annotated[int, typer.Option(min=1, max=2048, help="Largest request in MiB.")] = 32,
    limit_megapixels: Annotated[int, typer.Option(min=1, max=2048, help="Largest image in millions of pixels.")] = 50,
    limit_classes: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="Most classes of a request.")] = 256,
    timeout: Annotated[
        float, typer.Option(min=SHORTEST_WAIT, max=LONGEST_WAIT, help="Seconds for a request, waiting included.")
    ] = 300.0,
) -> None:
    """Serve the page and the API on this machine.

    The models are loaded once; requests wait in a bounded queue for one model thread. With the environment variable
    GOCA_TOKEN callers need that token. SIGTERM and ctrl-C answer what is under way, then end.

    Example: goca serve --model scenes-dit,scenes-unet --port 8642
    """
    with clean_stdout():
        try:
            from goca.server.run import address, listen, run
            from goca.server.settings import Settings, token_from_environment
        except ImportError as error:
            raise ValueError(f"goca serve needs {error.name}; install it with pip install 'goca[serve]'") from None
        settings = Settings(
            host=host,
            allowed_hosts=tuple(split_list(allow_host or [])),
            token=token_from_environment(),
            queue=queue,
            batch=batch,
            body_bytes=limit_mib * MIB,
            pixels=limit_megapixels * MILLION,
            classes=limit_classes,
            timeout=timeout,
        )
        chosen = model.each()

        def load() -> dict[str, Segmenter]:
            segmenters = [each.load(preset) for each in chosen]
            return {segmenter.model.spec.name: segmenter for segmenter in segmenters}

        listener = listen(host, port)
    say(f"open {address(listener)} in a browser; the API is listed at {address(listener)}/docs")
    with clean_stdout():
        run(load, settings, listener)
