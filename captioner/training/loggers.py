"""A run's numbers as one table that any spreadsheet opens."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from captioner.files import write_whole

FIRST = ("epoch", "step")


class MetricsFile(Logger):
    """`metrics.csv` in `folder`: a row per logged step, later columns added as they turn up.

    A step's numbers that arrive one after another share a row. Rows that are in the file already stay: a resumed run goes on below them.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] = []
        self._row: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration is a file of its own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._row and self._row["step"] != step:
            self._write()
        self._row = {**self._row, "step": step, **metrics}

    @rank_zero_only
    def save(self) -> None:
        """Lightning calls this now and then; a row is written once its step is over."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._write()

    def _write(self) -> None:
        if not self._row:
            return
        rows = read_rows(self.path) if not self._columns else []
        self._columns = self._columns or (list(rows[0]) if rows else [])
        new = [name for name in self._row if name not in self._columns]
        if new:
            rows = rows or read_rows(self.path)
            self._columns = [*FIRST, *sorted({*self._columns, *new} - {*FIRST})]
            write_whole(self.path, _table(self._columns, [*rows, self._row]))
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(self._row)
        self._row = {}


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def carry_rows(old: Path, new: Path, steps: int) -> None:
    """Begin a new metrics file with the rows of an old one's first steps."""
    rows = [row for row in read_rows(old) if row.get("step", "").isdigit() and int(row["step"]) < steps]
    if rows:
        write_whole(new, _table(list(rows[0]), rows))


def _table(columns: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
