"""Tables of captions beside one's own photos, as people write them by hand and by spreadsheet, changed in lines, cells and bytes."""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from annotation_files import reading, recorded
from driver import Case
from mutations import change_bytes, change_json, change_table, encoded, json_text, several
from world import World

Rows = list[tuple[str, str]]


def make(rng: random.Random, world: World, folder: Path) -> Case:
    world.copy("photos", folder)
    rows = [(row["file_name"], row["caption"]) for row in csv.DictReader(io.StringIO(world.table))]
    name, written = rng.choice(WAYS)(rng, rows)
    table = folder / "photos" / name
    (folder / "photos" / "captions.csv").unlink()
    if rng.random() < 0.02:
        table.mkdir()
    else:
        table.write_bytes(written if rng.random() < 0.85 else change_bytes(rng, written))
    strange_neighbours(rng, folder / "photos", world)
    return Case(["train", *recorded(world, "folder", folder), *chosen(rng, name), *reading(rng)])


def chosen(rng: random.Random, name: str) -> list[str]:
    """How the table is named: not at all, below the folder, by a path, wrongly."""
    table = rng.choices(("null", name, f"photos/{name}", "nothing.csv", "photos"), (30, 50, 15, 3, 2))[0]
    shares = rng.choices(([], ["data.val_share=0.5"], ["data.val_share=0.9", "data.test_share=0.05"]), (80, 15, 5))[0]
    return [f"data.table={table}", *shares]


def strange_neighbours(rng: random.Random, photos: Path, world: World) -> None:
    """Now and then a second table, an empty file, a folder named as a photo, or a text beside each photo."""
    kind = rng.choices(("none", "second", "folder", "texts"), (85, 5, 5, 5))[0]
    if kind == "second":
        (photos / rng.choice(("captions.jsonl", "metadata.jsonl", "captions.txt", "results.csv"))).write_text(world.table)
    elif kind == "folder":
        (photos / "seven.png").mkdir()
    elif kind == "texts":
        for photo in [path for path in photos.rglob("*") if path.is_file()]:
            photo.with_suffix(".txt").write_bytes(change_bytes(rng, b"a dog runs\n"))


def changed(rng: random.Random, text: str) -> str:
    """Two of three tables are changed."""
    return text if rng.random() < 0.33 else several(rng, change_table, text)


def separated(header: str, separator: str, name: str) -> Callable[[random.Random, Rows], tuple[str, bytes]]:
    """A table of one header and one separator, with changes in its text."""

    def write(rng: random.Random, rows: Rows) -> tuple[str, bytes]:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        if header:
            writer.writerow(header.split(","))
        numbered = [(image, str(number), caption) for number, (image, caption) in enumerate(rows)]
        writer.writerows(numbered if header.count(",") == 2 else rows)
        return name, encoded(rng, changed(rng, text.getvalue()))

    return write


def tokens(rng: random.Random, rows: Rows) -> tuple[str, bytes]:
    """Flickr8k's `name#0<tab>caption`."""
    text = "".join(f"{image}#{number % 5}\t{caption} .\n" for number, (image, caption) in enumerate(rows))
    return rng.choice(("Flickr8k.token.txt", "token.txt", "captions.txt")), encoded(rng, changed(rng, text))


def wide(rng: random.Random, rows: Rows) -> tuple[str, bytes]:
    """`caption_0 ... caption_4` in columns."""
    by_image: dict[str, list[str]] = {}
    for image, caption in rows:
        by_image.setdefault(image, []).append(caption.replace(",", ""))
    text = "".join(f"{image},{','.join(said)}\n" for image, said in by_image.items())
    return "captions.csv", encoded(rng, changed(rng, f"file_name,caption_0,caption_1\n{text}"))


def json_lines(rng: random.Random, rows: Rows) -> tuple[str, bytes]:
    """An object a line, changed one by one or as text."""
    key = rng.choice(("caption", "text", "captions"))
    listed: list[Any] = [{"file_name": image, key: [caption] if key == "captions" else caption} for image, caption in rows]
    if rng.random() < 0.3:
        listed = [{**row, "split": rng.choice(("train", "val", "test", "validation"))} for row in listed]
    at = rng.randrange(len(listed))
    lines = [json.dumps(row).encode() for row in listed]
    lines[at] = json_text(rng, several(rng, change_json, listed[at]))
    return rng.choice(("captions.jsonl", "metadata.jsonl")), rng.choice((*(b"\n",) * 6, b"\r\n", b"\n\n", b",\n", b"")).join(lines)


def whole_json(rng: random.Random, rows: Rows) -> tuple[str, bytes]:
    """One JSON list under a table's name."""
    return "captions.jsonl", json.dumps([{"file_name": image, "caption": caption} for image, caption in rows]).encode()


def many_lines(rng: random.Random, rows: Rows) -> tuple[str, bytes]:
    """A long file: the same few lines again and again."""
    return "captions.csv", b"file_name,caption\n" + b"".join(f"{image},a dog {n}\n".encode() for n in range(5_000) for image, _ in rows[:1])


WAYS = (
    *(separated("file_name,caption", ",", "captions.csv"),) * 4,
    separated("file_name,caption,split", ",", "captions.csv"),
    separated("image,caption", ",", "captions.txt"),
    separated("Image,Caption", ";", "captions.csv"),
    separated("image_name,comment_number,comment", "|", "results.csv"),
    separated("file_name,caption", "\t", "captions.tsv"),
    separated("", ",", "captions.csv"),
    *(json_lines,) * 4,
    tokens,
    wide,
    whole_json,
    many_lines,
)
