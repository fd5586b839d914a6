"""Any files in COCO captions format."""

from collections.abc import Mapping
from pathlib import Path

from captioner.data.captions import CaptionSet, read_coco_captions
from captioner.data.source import SPLITS, DataSource
from captioner.errors import InputError


class CaptionFiles(DataSource):
    """Per split an annotation file and the folder of its images: `{"annotations": FILE, "images": FOLDER}`.

    Optional are `instances`, a COCO instances file, and `entities`, Flickr30k Entities (annotations.zip, or the folder of its contents).

    missing: `error` or `skip`, for listed images that are not on disk. rejected: as `read_coco_captions` has it.
    Raises: InputError, a split lacks a key.
    """

    def __init__(
        self,
        train: Mapping[str, str | None] | None = None,
        val: Mapping[str, str | None] | None = None,
        test: Mapping[str, str | None] | None = None,
        missing: str = "error",
        rejected: str = "skip",
    ) -> None:
        self.missing, self.rejected = missing, rejected
        self._files: dict[str, dict[str, Path]] = {}
        for split, given in zip(SPLITS, (train, val, test), strict=True):
            paths = {key: Path(path) for key, path in (given or {}).items() if path}
            if not paths:
                continue
            for key in ("annotations", "images"):
                if key not in paths:
                    raise InputError(
                        f"data.{split}.{key} is not set; give the {'captions file' if key == 'annotations' else 'folder of images'}"
                    )
            self._files[split] = paths
        if not self._files:
            raise InputError(
                "data.train.annotations is not set; give data.train.annotations= and data.train.images= (val and test likewise)"
            )

    def splits(self) -> dict[str, CaptionSet]:
        return {
            split: read_coco_captions(paths["annotations"], paths["images"], self.missing, rejected=self.rejected)
            for split, paths in self._files.items()
        }

    @property
    def instances(self) -> dict[str, Path]:
        return {split: paths["instances"] for split, paths in self._files.items() if "instances" in paths}

    @property
    def entities(self) -> dict[str, Path]:
        return {split: paths["entities"] for split, paths in self._files.items() if "entities" in paths}
