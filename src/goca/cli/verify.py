"""``goca verify``: compare with the published code's recorded results."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from goca.cli.common import clean_stdout, print_json, say


def verify(
    paths: Annotated[list[str], typer.Argument(help="Golden files or folders of them.", metavar="PATH...")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Folder of the tokenizer of alignment cases. Default: beside the file.", metavar="DIR"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Check golden files: one line per case with its kind, name, largest difference, and pass or fail.

    The exit code is 0 only when all pass.
    """
    checks = []
    with clean_stdout():
        from goca.golden.verify import verify as run

        cases = run(paths, tokenizer)
    for check in cases:
        checks.append(check)
        if not as_json:
            prediction = "pass" if check.passed else "fail"
            ending = f"  {check.message}" if check.message else ""
            say(f"{check.kind}  {check.name}  {check.difference:.2e}  {prediction}{ending}")
    if as_json:
        entries = [asdict(check) for check in checks]
        for entry in entries:
            entry["difference"] = entry["difference"] if math.isfinite(entry["difference"]) else None
        print_json({"passed": all(check.passed for check in checks), "checks": entries})
    if not all(check.passed for check in checks):
        raise typer.Exit(1)
