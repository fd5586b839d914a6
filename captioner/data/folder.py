"""One's own photos: a folder with a table of captions beside them."""

import hashlib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from captioner.data.captions import CaptionSet, match_files
from captioner.data.images import image_endings
from captioner.data.listed_files import locate_files
from captioner.data.source import SPLITS, DataSource
from captioner.data.table import Row, Table, decode_text, read_table
from captioner.errors import ArgumentError, InputError

log = logging.getLogger(__name__)

TABLES = (
    *("captions.csv", "captions.jsonl", "captions.txt", "captions.tsv", "captions.json", "captions.token", "metadata.jsonl"),
    *("metadata.csv", "results.csv", "results_20130124.token", "flickr8k.token.txt", "token.txt"),
)
"""What a table of captions is called where nothing is said; capitals make no difference."""


class Folder(DataSource):
    """Images in `root` with a table of captions (one of TABLES there, or `table`), or with a `.txt` of captions beside each.

    A table is UTF-8 or UTF-16 text: lines that commas, semicolons, tabs or `|` separate, below a line that names the columns, capitals
    or not; or a JSON object a line. The image's column is `file_name`, or `image`, `filename`, `path` ... (NAMES in `table.py`), the
    caption's `caption`, `text`, `comment`, `sentence` ... (CAPTIONS), or several numbered ones, `caption_0`, `caption_1` ...; in JSON it
    may be a list. Several lines of one image are its captions. So Kaggle's captions.txt (image,caption), Flickr30k's results.csv
    (image_name| comment_number| comment) and Hugging Face's metadata.jsonl (file_name, text) are tables as they are. Without a first line
    of names, lines are name, separator, caption; the name may end in `#0`, as in Flickr8k.token.txt. Blank captions are left out and
    counted. A `split` column says train, val (validation, dev) or test.

    Names are of files below `root`, or of files in any one folder below it; where there is no such file, the only one that differs by
    letters' case, by Unicode's form, by backslashes or by a missing ending is taken.

    Without a `split` column images are split by share, by a hash of seed and file name, so that an image stays where it is when
    others are added; there is always an image in train and, where its share is above zero and images suffice, in the others.
    Image ids count from 1 in the order of first mention. missing: `error` or `skip`, for listed images that are not on disk.
    Raises: InputError, by file and line. ArgumentError, shares out of range.
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
            raise InputError("data.root is not set; give the folder that holds the images and a table of captions, captions.csv say")
        if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
            raise ArgumentError(
                "val_share", f"and test_share are shares of the images, not negative and below 1 together: {val_share}, {test_share}"
            )
        self.root, self.seed, self.missing = Path(root).expanduser(), seed, missing
        self.shares = {"val": val_share, "test": test_share}
        self.table = self._find(Path(table).expanduser() if table else None)

    def _find(self, table: Path | None) -> Path | None:
        """None: there is no table, but captions beside the images. Raises: InputError, neither, or several tables."""
        if not self.root.is_dir():
            raise InputError(f"{self.root}: folder not found (data.root)")
        if table is not None:
            table = table if table.is_absolute() or table.is_file() else self.root / table
            if not table.is_file():
                raise InputError(f"{table}: table of captions not found (data.table)")
            return table
        found = sorted(name for name in os.listdir(self.root) if name.lower() in TABLES and (self.root / name).is_file())
        if len(found) > 1:
            raise InputError(f"{self.root}: {' and '.join(found)} may each be the table of captions; name one with data.table=")
        if not found and not next(self._beside(), None):
            told = f"there is none of {', '.join(TABLES[:4])} ..., and no .txt beside any image"
            raise InputError(f"{self.root}: no captions found: {told}; name a table with data.table=")
        return self.root / found[0] if found else None

    def _beside(self) -> Iterator[tuple[str, Path]]:
        """Images with a `.txt` of the same name, in order."""
        for here, folders, files in os.walk(self.root):
            folders.sort()
            there = set(files)
            for name in sorted(files):
                stem, ending = os.path.splitext(name)
                if ending.lower() in image_endings() and f"{stem}.txt" in there:
                    yield os.path.relpath(os.path.join(here, name), self.root), Path(here, f"{stem}.txt")

    def _table(self) -> Table:
        if self.table is not None:
            return read_table(self.table)
        rows, blank = [], 0
        for name, path in self._beside():
            said = [line.strip() for line in decode_text(path)[0].split("\n") if line.strip()]
            blank += not said
            rows.append(Row(1, name, said, None))
        return Table(rows, "a .txt beside each image, a line a caption", [1] * blank)

    def splits(self) -> dict[str, CaptionSet]:
        table = self._table()
        listed_in = self.table or self.root
        captions, chosen = self._grouped(table, listed_in)
        if not captions:
            raise InputError(f"{listed_in}: holds no captions" + (f"; {len(table.blank)} are blank" if table.blank else ""))
        image_ids = {name: number for number, name in enumerate(captions, 1)}
        sets = {}
        for split in SPLITS:
            names = [name for name in captions if chosen[name] == split]
            if names:
                whole = CaptionSet(self.root, names, [image_ids[name] for name in names], [captions[name] for name in names])
                sets[split] = match_files(whole, self.missing, listed_in)
        said = f"{sum(map(len, captions.values())):,} captions of {len(captions):,} images"
        told = ", ".join(f"{len(of_split):,} {split}" for split, of_split in sets.items())
        first = f", the first in line {table.blank[0]:,}" if table.blank and self.table is not None else ""
        left = f"; blank captions are left out: {len(table.blank):,}{first}" if table.blank else ""
        log.info("%s: %s (%s): %s%s", listed_in, said, told, table.how, left)
        return sets

    def _grouped(self, table: Table, listed_in: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
        """(captions, split) by the name of each image's file, of those that have captions."""
        listed = list(dict.fromkeys(row.name for row in table.rows if row.captions))
        inside = [self._below(name) for name in listed]
        place, respelt = locate_files(self.root, inside, listed_in, deep=True)
        if respelt:
            told = f"{listed[respelt[0]]!r} is {place[respelt[0]]!r}"
            log.info("%s: %d of %d images are called otherwise on the disk: %s", listed_in, len(respelt), len(listed), told)
        called = {name: found or within for name, within, found in zip(listed, inside, place, strict=True)}
        captions: dict[str, list[str]] = {}
        named: dict[str, str | None] = {}
        for row in table.rows:
            if row.captions:
                name = called[row.name]
                captions.setdefault(name, []).extend(row.captions)
                if named.setdefault(name, row.split) != row.split:
                    told = f"{name} is in split {row.split or 'none'} here and in {named[name] or 'none'} above"
                    raise InputError(f"{listed_in} line {row.line}: {told}")
        lacking = next((name for name, split in named.items() if split is None), None)
        if lacking is not None and any(named.values()):
            raise InputError(f"{listed_in}: {lacking} has no split while others have; give every line one or none")
        return captions, self._by_share(list(captions)) if lacking is not None else {name: str(split) for name, split in named.items()}

    def _below(self, name: str) -> str:
        """A whole path that leads below the root as a name below it."""
        return (
            os.path.relpath(name, self.root.absolute()) if os.path.isabs(name) and Path(name).is_relative_to(self.root.absolute()) else name
        )

    def _by_share(self, names: list[str]) -> dict[str, str]:
        spelt = {name: f"{self.seed} {unicodedata.normalize('NFC', name)}".encode("utf-8", "surrogatepass") for name in names}
        place = {name: int.from_bytes(hashlib.sha256(letters).digest()[:8], "big") / 2**64 for name, letters in spelt.items()}
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
