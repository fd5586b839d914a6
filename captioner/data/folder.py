"""One's own photos: a folder with a table of captions beside them."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioner.data.captions import CaptionSet, on_disk
from captioner.data.source import DataSource
from captioner.errors import InputError

TABLES = ("captions.csv", "captions.jsonl")
SPLITS = ("train", "val", "test")


class Folder(DataSource):
    """`captions.csv` (with a header) or `captions.jsonl` in `root`: a line a caption, columns `file_name`, `caption` and, if
    wanted, `split` (train, val or test); `image` and `file` do for `file_name`. Several lines of one file are its captions; a
    JSON line may hold a list of them as `captions`.

    Without a `split` column images are split by share, by a hash of seed and file name, so that an image stays where it is when
    others are added; there is always an image in train and, where its share is above zero and images suffice, in the others.
    Image ids count from 1 in the order of first mention. missing: `error` or `skip`, for listed images that are not on disk.
    Raises: InputError, by file and line. ValueError, shares out of range.
    """

    def __init__(
        self,
        root: str | Path | None,
        table: str | Path | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
        missing: str = "error",
    ) -> None:
        if not root:
            raise InputError("data.root is not set; give the folder that holds the images and captions.csv or captions.jsonl")
        if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
            raise ValueError(
                f"val_share and test_share are shares of the images, not negative and below 1 together: {val_share}, {test_share}"
            )
        self.root, self.seed, self.missing = Path(root).expanduser(), seed, missing
        self.shares = {"val": val_share, "test": test_share}
        self.table = self._find(Path(table).expanduser() if table else None)

    def _find(self, table: Path | None) -> Path:
        if not self.root.is_dir():
            raise InputError(f"{self.root}: folder not found (data.root)")
        if table is not None:
            table = table if table.is_absolute() or table.is_file() else self.root / table
            if not table.is_file():
                raise InputError(f"{table}: table of captions not found (data.table)")
            return table
        found = [self.root / name for name in TABLES if (self.root / name).is_file()]
        if len(found) != 1:
            state = "both are" if found else "neither is"
            raise InputError(f"{self.root}: expected captions.csv or captions.jsonl, {state} there; name one with data.table=")
        return found[0]

    def splits(self) -> dict[str, CaptionSet]:
        captions: dict[str, list[str]] = {}
        named: dict[str, str | None] = {}
        for where, name, caption, split in _rows(self.table):
            captions.setdefault(name, []).append(caption)
            if named.setdefault(name, split) != split:
                raise InputError(f"{where}: {name} is in split {split or 'none'} here and in {named[name] or 'none'} above")
        if not captions:
            raise InputError(f"{self.table}: holds no captions")
        lacking = next((name for name, split in named.items() if split is None), None)
        if lacking is not None and any(named.values()):
            raise InputError(f"{self.table}: {lacking} has no split while others have; give every line one or none")
        chosen = self._by_share(list(captions)) if lacking is not None else {name: str(split) for name, split in named.items()}
        image_ids = {name: number for number, name in enumerate(captions, 1)}
        sets = {}
        for split in SPLITS:
            names = [name for name in captions if chosen[name] == split]
            if names:
                whole = CaptionSet(self.root, names, [image_ids[name] for name in names], [captions[name] for name in names])
                sets[split] = on_disk(whole, self.missing, self.table)
        return sets

    def _by_share(self, names: list[str]) -> dict[str, str]:
        place = {name: int.from_bytes(hashlib.sha256(f"{self.seed} {name}".encode()).digest()[:8], "big") / 2**64 for name in names}
        chosen = dict.fromkeys(names, "train")
        low = 0.0
        for split, share in self.shares.items():
            for name in names:
                if low <= place[name] < low + share:
                    chosen[name] = split
            low += share
        wanted = [split for split in SPLITS if split == "train" or self.shares[split] > 0]
        for order, split in enumerate(wanted):
            if split in chosen.values():
                continue
            counts = Counter(chosen.values())
            spare = [name for name in names if counts[chosen[name]] > 1 or chosen[name] in wanted[order:]]
            if spare:
                chosen[min(spare, key=lambda name: place[name])] = split
        return chosen


def _rows(table: Path) -> Iterator[tuple[str, str, str, str | None]]:
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table}: cannot be read as UTF-8 text ({error})") from None
    rows = _csv(table, text) if table.suffix.lower() == ".csv" else _json_lines(table, text)
    for where, row in rows:
        name = next((row[key] for key in ("file_name", "image", "file") if key in row), None)
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}: `file_name` is missing or empty")
        split = row.get("split") or None
        if split is not None and split not in SPLITS:
            raise InputError(f"{where}: `split` must be train, val or test, found {split!r}")
        captions = row["captions"] if isinstance(row.get("captions"), list) else [row.get("caption")]
        for caption in captions:
            if not isinstance(caption, str) or not caption.strip():
                raise InputError(f"{where}: `caption` is missing, empty or not a string")
            yield where, name.strip(), caption.strip(), split


def _csv(table: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or []]
        if "caption" not in columns or not {"file_name", "image", "file"} & set(columns):
            raise InputError(
                f"{table}: the first line must name the columns file_name and caption, found {', '.join(columns) or 'nothing'}"
            )
        reader.fieldnames = columns
        for row in reader:
            if None in row:
                raise InputError(f"{table} line {reader.line_num}: more fields than columns; put captions with commas in double quotes")
            yield f"{table} line {reader.line_num}", row
    except csv.Error as error:
        raise InputError(f"{table} line {reader.line_num}: {error}") from None


def _json_lines(table: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{table} line {number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise InputError(f"{table} line {number}: expected a JSON object")
        yield f"{table} line {number}", row
