"""``goca doctor``: what this installation has and lacks."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from goca.cli.common import clean_stdout, print_json, print_table
from goca.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, and what this installation lacks.

    Device, memory, models that fit, versions, downloads, and optional packages that are missing. Nothing is downloaded
    or changed. Whether a model fits is an estimate from the size of its weights, see `goca models --fit`.

    Example: goca doctor
    """
    with clean_stdout():
        from goca.doctor import examine

        findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(finding.name, finding.value + (f"; {finding.advice}" if finding.advice else ""))
    print_table(table)
