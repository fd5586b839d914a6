"""Which words name COCO's categories."""

from pathlib import Path

import pytest

from captioner.data.coco import Coco
from captioner.data.instances import Instance, read_instances
from captioner.data.object_words import category_phrases, find_phrases, phrase_table, plural_phrase
from captioner.tokenizer import tokenize


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("Two men and a woman's dog", [("men", "person"), ("woman", "person"), ("dog", "dog")]),
        ("a hot dog beside hot dogs", [("hot dog", "hot dog"), ("hot dogs", "hot dog")]),
        ("a teddy bear and a bear", [("teddy bear", "teddy bear"), ("bear", "bear")]),
        ("traffic lights over taxis, a stop sign", [("traffic lights", "traffic light"), ("taxis", "car"), ("stop sign", "stop sign")]),
        ("a train station with a clock tower", []),
        ("a couple of knives, geese and sheep", [("knives", "knife"), ("geese", "bird"), ("sheep", "sheep")]),
        ("an orange cat eats oranges", [("cat", "cat"), ("oranges", "orange")]),
        ("glasses of wine, a pair of scissors", [("glasses of wine", "wine glass"), ("pair of scissors", "scissors")]),
        ("two snowboarders, a fire fighter's truck", [("snowboarders", "person"), ("truck", "truck")]),
        ("dog", [("dog", "dog")]),
        ("", []),
    ],
)
def test_words_name_categories_the_longest_phrase_first(caption, named):
    tokens = tokenize(caption)
    assert [(" ".join(tokens[a:b]), category) for a, b, category in find_phrases(tokens, phrase_table())] == named


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("bus", "buses"),
        ("baby", "babies"),
        ("boy", "boys"),
        ("fireman", "firemen"),
        ("person", "people"),
        ("grandchild", "grandchildren"),
        ("slice of pizza", "slices of pizza"),
        ("skis", "skis"),
    ],
)
def test_plurals(one, several):
    assert plural_phrase(one) == several


def test_a_category_that_the_table_does_not_know_is_named_by_its_own_name():
    thing = Instance("Space Ship", (0.0, 0.0, 1.0, 1.0), False, None)
    names = category_phrases({3: [thing, thing._replace(category="cup"), thing], 4: []})
    assert names(3, ["two", "space", "ships", "and", "mugs"]) == [(1, 3, "Space Ship", [0, 2]), (4, 5, "cup", [1])]
    assert names(4, ["a", "mug"]) == [(1, 2, "cup", [])]


def test_every_coco_category_is_named_by_itself_and_its_plural(real_data: Path):
    import json

    listed = json.loads(Coco(real_data / "coco_tiny").instances["val"].read_text())["categories"]
    assert len(listed) == 80
    table = phrase_table()
    for category in {entry["name"] for entry in listed} - {"orange"}:
        assert table[tuple(category.split())] == table[tuple(plural_phrase(category).split())] == category
    assert {name for name in table.values() if name} == {entry["name"] for entry in listed}


def test_what_people_say_of_coco_s_images_is_mostly_in_the_instances_file(real_data: Path):
    source = Coco(real_data / "coco_tiny")
    named = there = 0
    for split, path in source.instances.items():
        instances, captions = read_instances(path), source.splits()[split]
        names = category_phrases(instances)
        for image, spoken_of in captions.references.items():
            for caption in spoken_of:
                for _, _, _, objects in names(image, tokenize(caption)):
                    named += 1
                    there += bool(objects)
    assert named > 300
    assert there / named > 0.9
