"""A data set, whatever its files: the one base of every kind in conf/data."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from captioner.data.captions import CaptionSet

SPLITS = ("train", "val", "test")
PHOTOGRAPHS, DRAWN = "photographs", "drawn scenes"


class DataSource(ABC):
    """Built from conf/data; reads its files when asked for splits, not before."""

    pictures = PHOTOGRAPHS
    """What its images are, in a word that a model trained on them keeps."""

    @abstractmethod
    def splits(self) -> dict[str, CaptionSet]:
        """The splits that exist, of `train`, `val` and `test`. Raises: InputError, a file is missing or wrong."""

    def in_use(self) -> AbstractContextManager[None]:
        """While this is entered, no process of ours changes the files. Most data sets are only read: there is nothing to do."""
        return nullcontext()

    @property
    def instances(self) -> dict[str, Path]:
        """Split -> COCO instances file (boxes, masks), where there is one."""
        return {}

    @property
    def entities(self) -> dict[str, Path]:
        """Split -> Flickr30k Entities of its photos, where there are some."""
        return {}

    @property
    def scenes(self) -> dict[str, Path]:
        """Split -> the truth of drawn scenes, where there is one."""
        return {}
