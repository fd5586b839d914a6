"""A run's numbers as one table that any spreadsheet opens."""

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
    """`metrics.csv` in `folder`: a row per logged step, later columns added as they turn up.

    A step's row is in the file as soon as the step is over. Numbers of the same step that arrive later are put into its row. Rows
    that are in the file already stay: a resumed run goes on below them.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] = []
        self._row: dict[str, Any] = {}
        self._begins: int | None = None
        """Where the row begins in the file, in bytes, once it is there."""
        self._changed = False

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
            self._row, self._begins = {}, None
        self._row = {**self._row, "step": step, **metrics}
        self._changed = True

    @rank_zero_only
    def save(self) -> None:
        """Lightning calls this after it has logged a step's numbers."""
        self._write()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._write()

    def _write(self) -> None:
        if not self._changed:
            return
        if not self._columns and self.path.is_file():
            rows = read_rows(self.path)
            self._columns = list(rows[0]) if rows else []
            if not self.path.read_bytes().endswith(b"\n"):
                write_atomically(self.path, _table(self._columns, rows), durable=False)
        if any(name not in self._columns for name in self._row):
            self._widen()
        elif self._begins is None:
            self._append()
        else:
            written = self.path.read_bytes()[: self._begins]
            write_atomically(self.path, written + _line(self._columns, self._row), durable=False)
        self._changed = False

    def _widen(self) -> None:
        rows = read_rows(self.path)
        before = rows[:-1] if self._begins is not None else rows
        self._columns = [*FIRST, *sorted({*self._columns, *self._row} - {*FIRST})]
        written = _table(self._columns, before)
        self._begins = len(written)
        write_atomically(self.path, written + _line(self._columns, self._row), durable=False)

    def _append(self) -> None:
        """In one system call, so that a kill finds the row in the file or not."""
        try:
            with self.path.open("ab", buffering=0) as file:
                self._begins = file.tell()
                file.write(_line(self._columns, self._row))
        except OSError as error:
            raise unwritable_error(self.path, error) from error


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file; none where there is no file. A last row that a kill or a full disk cut short is left out."""
    if not path.is_file():
        return []
    whole, end, _ = path.read_bytes().rpartition(b"\n")
    return list(csv.DictReader(io.StringIO((whole + end).decode("utf-8"), newline="")))


def carry_rows(old: Path, new: Path, steps: int) -> None:
    """Begin a new metrics file with the rows of an old one's first steps."""
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
