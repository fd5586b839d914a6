"""The numbers that a run logs, as a table that any spreadsheet program opens."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from captioner.atomic_files import unwritable_error, write_atomically

FIRST = ("epoch", "step")


class MetricsFile(Logger):
    """`metrics.csv` in `folder`: one row per logged step, and new columns as they occur.

    A step's row is in the file as soon as the step is over. Numbers of the same step that arrive
    later are added to its row. Rows that are in the file already stay: a resumed run goes on below
    them.
    Lightning's CSVLogger (2.6) deletes a metrics.csv that it finds, writes a row for every call
    instead of every step, and rewrites the file in place, so that a kill can destroy it.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] = []
        self._row: dict[str, Any] = {}
        self._row_start: int | None = None
        """Where the row begins in the file, in bytes; None before it is written."""
        self._changed = False

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Writes nothing: the configuration has its own file."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._row and self._row["step"] != step:
            self.save()
            self._row, self._row_start = {}, None
        self._row = {**self._row, "step": step, **metrics}
        self._changed = True

    @rank_zero_only
    def save(self) -> None:
        """Write the row. Lightning calls this after it has logged a step's numbers."""
        if not self._changed:
            return
        if not self._columns and self.path.is_file():
            rows = read_rows(self.path)
            self._columns = list(rows[0]) if rows else []
            if not self.path.read_bytes().endswith(b"\n"):
                write_atomically(self.path, _table(self._columns, rows), durable=False)
        if any(name not in self._columns for name in self._row):
            self._add_columns()
        elif self._row_start is None:
            self._append()
        else:
            self._replace_row(self.path.read_bytes()[: self._row_start])
        self._changed = False

    def finalize(self, status: str) -> None:
        self.save()

    def _add_columns(self) -> None:
        rows = read_rows(self.path)
        before = rows[:-1] if self._row_start is not None else rows
        self._columns = [*FIRST, *sorted({*self._columns, *self._row} - {*FIRST})]
        self._replace_row(_table(self._columns, before))

    def _replace_row(self, above: bytes) -> None:
        """Write the whole file again: what is `above` the row, and the row."""
        self._row_start = len(above)
        write_atomically(self.path, above + _line(self._columns, self._row), durable=False)

    def _append(self) -> None:
        """Append the row in one system call, so that a kill leaves all of it or nothing."""
        try:
            with self.path.open("ab", buffering=0) as file:
                self._row_start = file.tell()
                file.write(_line(self._columns, self._row))
        except OSError as error:
            raise unwritable_error(self.path, error) from error


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file, if there is one, without a last row that a kill cut short."""
    if not path.is_file():
        return []
    lines, end, _ = path.read_bytes().rpartition(b"\n")
    return list(csv.DictReader(io.StringIO((lines + end).decode("utf-8"), newline="")))


def copy_rows(old: Path, new: Path, steps: int) -> None:
    """Begin a new metrics file with the rows of the first `steps` steps of an old one."""
    rows = [row for row in read_rows(old) if row.get("step", "").isdigit() and int(row["step"]) < steps]
    if rows:
        write_atomically(new, _table(list(rows[0]), rows))
    else:
        new.unlink(missing_ok=True)


def _table(columns: list[str], rows: list[dict[str, Any]]) -> bytes:
    return b"".join([_line(columns, {name: name for name in columns}), *(_line(columns, row) for row in rows)])


def _line(columns: list[str], row: Mapping[str, Any]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, columns).writerow(row)
    return text.getvalue().encode()
