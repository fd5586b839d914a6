"""COCO as it is distributed."""

from pathlib import Path

from captioner.data.captions import CaptionSet, read_coco_captions
from captioner.data.source import SPLITS, DataSource
from captioner.errors import InputError


class Coco(DataSource):
    """Below `root`: `{train,val}{year}/`, `annotations/captions_{train,val}{year}.json`, and `instances_` beside it where there.

    missing: `error` or `skip`, for listed images that are not on disk. rejected: as `read_coco_captions` has it.
    Raises: InputError, root is not given or not there.
    """

    def __init__(self, root: str | Path | None, year: int = 2017, missing: str = "error", rejected: str = "skip") -> None:
        if not root:
            raise InputError(f"data.root is not set; give the folder that holds train{year}/, val{year}/ and annotations/")
        self.root, self.year, self.missing, self.rejected = Path(root).expanduser(), year, missing, rejected
        if not self.root.is_dir():
            raise InputError(f"{self.root}: folder not found (data.root); it should hold train{year}/, val{year}/ and annotations/")

    def _annotations(self, kind: str, split: str) -> Path:
        return self.root / "annotations" / f"{kind}_{split}{self.year}.json"

    def splits(self) -> dict[str, CaptionSet]:
        there = [split for split in SPLITS if split == "train" or self._annotations("captions", split).exists()]
        return {
            split: read_coco_captions(
                self._annotations("captions", split), self.root / f"{split}{self.year}", self.missing, rejected=self.rejected
            )
            for split in there
        }

    @property
    def instances(self) -> dict[str, Path]:
        paths = {split: self._annotations("instances", split) for split in SPLITS}
        return {split: path for split, path in paths.items() if path.exists()}
