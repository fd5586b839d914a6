"""A run's parts are built from its configuration before any data are read."""

from pathlib import Path

import pytest

from captioner.errors import InputError
from captioner.scenes.scenes import Scenes
from captioner.training.configuration import compose_run, plain
from captioner.training.run_parts import Parts, build_parts
from captioner.training.splits import read_splits


def parts(*words: str) -> Parts:
    return build_parts(plain(compose_run(["experiment=scenes", "run_folder=run", *words])))


pytestmark = pytest.mark.usefixtures("here")


def test_no_part_reads_or_writes_anything(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scenes, "in_use", lambda *_: pytest.fail("the scenes are read"))
    parts()
    parts("objective=supervised")
    assert not list(here.iterdir())


def test_there_is_a_final_search_where_validation_has_another_or_fewer_images() -> None:
    same = ["search=greedy", "search@validation.search=greedy"]
    assert parts(*same).final_search is None
    assert str(parts(*same, "validation.images=3").final_search) == str(parts(*same).validation_search)
    assert str(parts("search=beam").final_search) == "beam 3"


def test_features_are_cached_until_the_encoder_learns() -> None:
    assert parts().feature_folder is None
    cached = parts("data.cache_features=true")
    assert (cached.feature_folder, cached.features_until) == (Path("outputs/features"), None)
    thawed = parts("data.cache_features=true", "callbacks.fine_tune.epoch=2")
    assert (thawed.feature_folder, thawed.features_until) == (Path("outputs/features"), 2)
    assert parts("data.cache_features=true", "callbacks.fine_tune.epoch=0").feature_folder is None
    assert parts("callbacks.fine_tune.epoch=2").features_until is None


def test_the_splits_are_limited_and_a_missing_one_is_named(here: Path) -> None:
    drawn = ["data.root=drawn", "data.train=5", "data.val=3", "data.test=2", "data.workers=1"]
    splits = read_splits(parts(*drawn, "data.limit=4"))
    assert {name: len(captions) for name, captions in splits.items()} == {"train": 4, "val": 3}
    with pytest.raises(InputError, match="data has no split 'middle', only train, val, test"):
        read_splits(parts(*drawn, "validation.split=middle"))
