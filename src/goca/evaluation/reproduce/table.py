"""A table of the paper with our numbers beside the reported ones: as rows, CSV, LaTeX and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from goca.evaluation.csv_table import csv_text
from goca.evaluation.generation.table import DIGITS
from goca.evaluation.reproduce.reported import TITLES


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        row: the method.
        model: its name.
        column: data set or measure.
        reported: by the paper, if it was.
        ours: measured here, if it was; in the unit of the reported number.
        low, high: 95% interval around ``ours`` from drawing the images anew, where there is one.
        images: how many were measured.
    """

    row: str
    model: str
    column: str
    reported: float | None = None
    ours: float | None = None
    low: float | None = None
    high: float | None = None
    images: int | None = None

    @property
    def difference(self) -> tuple[float | None, float | None, float | None]:
        """Ours minus the reported number, and its interval (of ours alone; the paper reports none)."""
        if self.reported is None:
            return None, None, None
        value, low, high = (None if each is None else each - self.reported for each in (self.ours, self.low, self.high))
        return value, low, high

    def times(self, unit: float) -> Cell:
        """With what was measured here in another unit, such as percent."""
        measured = {name: getattr(self, name) for name in ("ours", "low", "high")}
        return replace(self, **{name: each and unit * each for name, each in measured.items()})

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        difference = dict(zip(("difference", "difference_low", "difference_high"), self.difference, strict=True))
        return {**{"model": self.model, "method": self.row, "column": self.column}, **self._numbers, **difference}

    @property
    def _numbers(self) -> dict[str, Any]:
        names = ("reported", "ours", "low", "high", "images")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name: as of the command.
        title: what it holds.
        cells: those that are reported or were measured, row by row.
        missing: sentences about what was not at hand, with where to get it.
        notes: sentences that the reader should know.
        failed: whether an image failed.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failed: bool = False

    @property
    def measured(self) -> bool:
        """Whether it holds a number of ours."""
        return any(cell.ours is not None for cell in self.cells)

    @cached_property
    def columns(self) -> list[str]:
        """Data sets or measures, in order."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    @cached_property
    def rows(self) -> dict[tuple[str, str], dict[str, Cell]]:
        """By (model, method) the cells of its columns."""
        rows: dict[tuple[str, str], dict[str, Cell]] = {}
        for cell in self.cells:
            rows.setdefault((cell.model, cell.row), {})[cell.column] = cell
        return rows

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "table": self.name,
            "title": self.title,
            "cells": [cell.to_json() for cell in self.cells],
            "missing": list(self.missing),
            "notes": list(self.notes),
        }


def title_of(name: str) -> str:
    """What readers know a row or column as."""
    return TITLES.get(name, name)


def number(value: float | None, column: str, sign: str = "") -> str:
    """As many digits as the paper gives; blank for nothing."""
    return "" if value is None else f"{round(value, digits := DIGITS.get(column, 1)) + 0.0:{sign}.{digits}f}"


def interval(low: float | None, high: float | None, column: str, sign: str = "") -> str:
    """``[59.8, 61.7]``; blank where there is none."""
    return "" if low is None else f"[{number(low, column, sign)}, {number(high, column, sign)}]"


def to_csv(table: Table) -> str:
    """One line per number."""
    columns = ["table", *Cell("", "", "").to_json()]
    return csv_text(columns, [{"table": table.name, **cell.to_json()} for cell in table.cells])


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(LATEX.get(each, "\\" + each if each in "&%$#_{}" else each) for each in text)


def to_latex(table: Table) -> str:
    """A ``tabular`` for the packages booktabs and amsmath: under each column the reported number and ours with its
    interval; what is missing stands in comments."""
    heads = [rf"\multicolumn{{2}}{{c}}{{{escape_latex(title_of(column))}}}" for column in table.columns]
    lines = [f"% {escape_latex(table.title)}", *(f"% missing: {each}" for each in table.missing)]
    lines += [rf"\begin{{tabular}}{{ll{'rr' * len(heads)}}}", r"\toprule"]
    lines += [" & ".join(["model", "method", *heads]) + r" \\"]
    lines += [" & ".join(["", "", *["reported & ours"] * len(heads)]) + r" \\", r"\midrule"]
    for (model, row), cells in table.rows.items():
        parts = [escape_latex(model), escape_latex(title_of(row))]
        parts += [part for column in table.columns for part in _latex_cell(cells.get(column))]
        lines.append(" & ".join(parts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cell(cell: Cell | None) -> Sequence[str]:
    if cell is None:
        return "", ""
    spread = interval(cell.low, cell.high, cell.column)
    ours = number(cell.ours, cell.column) + (rf" {{\scriptsize {spread}}}" if spread else "")
    return number(cell.reported, cell.column), ours


def to_html(tables: Sequence[Table]) -> str:
    """One page that needs no other file."""
    from goca.evaluation.report import page_environment

    environment = page_environment("goca.evaluation.reproduce")
    environment.globals.update(title_of=title_of, number=number, interval=interval)
    return environment.get_template("tables.html").render(tables=tables)
