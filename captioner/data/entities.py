"""Flickr30k Entities: boxes of the phrases of captions, from `annotations.zip` or its unpacked folders.

`Annotations/ID.xml` has the photo's size and the boxes of its entities, `Sentences/ID.txt` its
captions with their phrases marked: `[/EN#12/people A man] sits .`; ID is the part of a photo's file
name before the first `_` or `.`. Source: Plummer et al. 2015, sec. 3.
"""

import difflib
import logging
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from captioner.box import CocoBox
from captioner.data.boxes import upright_size
from captioner.data.captions import CaptionSet
from captioner.data.instances import Instance
from captioner.data.object_words import Named, PhraseFinder
from captioner.errors import InputError
from captioner.ids import ImageKey
from captioner.progress import progress
from captioner.tokenizer import tokenize

log = logging.getLogger(__name__)

LARGEST = 2**20
"""Bytes of a file; those that are distributed have a few thousand."""
NOT_VISUAL = "0"
"""The entity of phrases that name nothing one can see."""
ALIKE = 0.6
"""Captions of a photo are paired with its sentences from this share of common words on (`difflib`'s ratio)."""
_PART = re.compile(r"\[/EN#(\d+)((?:/[\w-]+)+) ([^\[\]]*)\]|([^\[\]]+)")
Reader = Callable[[str, str], bytes | None]
"""(folder, file name) -> the file's contents; None where there is no such file."""


class Phrase(NamedTuple):
    first: int
    stop: int
    kind: str
    """people, clothing, bodyparts, animals, vehicles, instruments, other, scene."""
    objects: list[int]


class Sentence(NamedTuple):
    tokens: tuple[str, ...]
    phrases: list[Phrase]


class Entities(NamedTuple):
    """What is known of the photos of a set of captions."""

    instances: dict[ImageKey, list[Instance]]
    """The boxes of each photo, in its own pixels; the category is the number of the entity."""
    sizes: dict[ImageKey, tuple[int, int]]
    names: PhraseFinder


def read_entities(path: Path, captions: CaptionSet) -> Entities:
    """The boxes of the phrases of these captions.

    Boxes follow a photo that was resampled to another size, across and down apart. A phrase without boxes, of a scene or of nothing
    visible is left out; how many, a log line says. A caption whose words differ from those of every sentence takes the phrases of the
    most similar one, as far as all words of a phrase are in it.
    Raises: InputError, the first file that is missing or damaged, by name; or none of the photos is described.
    """
    read = _reader(path)
    counts: Counter[str] = Counter()
    instances: dict[ImageKey, list[Instance]] = {}
    sizes: dict[ImageKey, tuple[int, int]] = {}
    sentences: dict[ImageKey, list[Sentence]] = {}
    for index, key in enumerate(progress(captions.keys, "reading boxes of phrases")):
        name = re.split(r"[_.]", PurePosixPath(captions.names[index]).name, maxsplit=1)[0]
        boxes, text = read("Annotations", f"{name}.xml"), read("Sentences", f"{name}.txt")
        if boxes is None and text is None:
            counts["photos"] += 1
            continue
        if boxes is None or text is None:
            raise InputError(f"{path}: holds {'Sentences' if boxes is None else 'Annotations'} of {name}, and lacks the other of the two")
        told, of_entity = _boxes(boxes, f"{path}: Annotations/{name}.xml")
        size = upright_size(captions.path(index)) or told
        instances[key], objects = _instances(of_entity, told, size)
        sizes[key] = size
        sentences[key] = [
            _sentence(line, objects, f"{path}: Sentences/{name}.txt: line {number}", counts)
            for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1)
            if line.strip()
        ]
    if not instances:
        raise InputError(f"{path}: describes none of the {len(captions):,} photos, the first of which is {captions.names[0]}")
    log.info(
        "%s phrases have boxes; left out: %s without boxes, %s that name nothing visible; %s photos are not described",
        *(f"{counts[reason]:,}" for reason in ("kept", "without", "not visual", "photos")),
    )
    return Entities(instances, sizes, _Finder(sentences, instances))


class _Finder:
    """Finds the phrases of a caption of one of the photos."""

    def __init__(self, sentences: dict[ImageKey, list[Sentence]], instances: dict[ImageKey, list[Instance]]) -> None:
        self.sentences, self.instances = sentences, instances

    def __call__(self, image: ImageKey, tokens: Sequence[str]) -> list[Named]:
        own = tuple(tokens)
        of_image = self.sentences.get(image, [])
        same = next((sentence for sentence in of_image if sentence.tokens == own), None)
        if same is not None:
            return [(phrase.first, phrase.stop, phrase.kind, phrase.objects) for phrase in same.phrases]
        pairs = [difflib.SequenceMatcher(None, sentence.tokens, own, autojunk=False) for sentence in of_image]
        ratios = [pair.ratio() for pair in pairs]
        if not ratios or max(ratios) < ALIKE:
            return []
        best = ratios.index(max(ratios))
        return _carried(of_image[best], pairs[best])


def _carried(sentence: Sentence, pair: difflib.SequenceMatcher[str]) -> list[Named]:
    """The phrases all of whose words the other caption has, side by side."""
    places = {at + step: other + step for at, other, length in pair.get_matching_blocks() for step in range(length)}
    found = []
    for phrase in sentence.phrases:
        first, last = places.get(phrase.first), places.get(phrase.stop - 1)
        if first is not None and last is not None and last - first == phrase.stop - 1 - phrase.first:
            found.append((first, last + 1, phrase.kind, phrase.objects))
    return found


def _reader(path: Path) -> Reader:
    """Of the archive, or of the folder that Annotations/ and Sentences/ lie in. Raises: InputError, it is neither."""
    if path.is_dir():
        for folder in ("Annotations", "Sentences"):
            if not (path / folder).is_dir():
                raise InputError(f"{path / folder}: there is no such folder; give annotations.zip or the folder that it was unpacked to")

        def read_file(folder: str, name: str) -> bytes | None:
            file = path / folder / name
            if not file.is_file():
                return None
            if file.stat().st_size > LARGEST:
                raise InputError(f"{file}: larger than {LARGEST:,} bytes, so it is not a file of Flickr30k Entities")
            return file.read_bytes()

        return read_file
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder; give annotations.zip of Flickr30k Entities")
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a zip archive that can be read ({error})") from None
    members = {tuple(PurePosixPath(member.filename).parts[-2:]): member for member in archive.infolist()}

    def read_member(folder: str, name: str) -> bytes | None:
        member = members.get((folder, name))
        if member is None:
            return None
        if member.file_size > LARGEST:
            raise InputError(f"{path}: {member.filename}: larger than {LARGEST:,} bytes, so it is not a file of Flickr30k Entities")
        try:
            return archive.read(member)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"{path}: {member.filename}: damaged ({error})") from None

    return read_member


def _boxes(text: bytes, where: str) -> tuple[tuple[int, int], dict[str, list[CocoBox]]]:
    """(width, height), and the boxes of each entity in its pixels. Raises: InputError, the XML is not such a file."""
    if b"<!DOCTYPE" in text:
        raise InputError(f"{where}: has a document type, which files of Flickr30k Entities do not have")
    try:
        root = ElementTree.fromstring(text)
        width, height = (int(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
        found: dict[str, list[CocoBox]] = defaultdict(list)
        for entity in root.iter("object"):
            box = entity.find("bndbox")
            if box is None:
                continue
            left, top, right, bottom = (float(box.findtext(edge, "")) for edge in ("xmin", "ymin", "xmax", "ymax"))
            for name in entity.findall("name"):
                found[name.text or ""].append((left, top, right - left, bottom - top))
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{where}: not the XML of Flickr30k Entities ({error or 'a number is missing'})") from None
    if width < 1 or height < 1:
        raise InputError(f"{where}: the photo's size is {width} x {height} pixels")
    return (width, height), found


def _instances(
    of_entity: dict[str, list[CocoBox]], told: tuple[int, int], size: tuple[int, int]
) -> tuple[list[Instance], dict[str, list[int]]]:
    """Every box in the pixels of a photo of this size, and which of them are an entity's."""
    across, down = size[0] / told[0], size[1] / told[1]
    found: list[Instance] = []
    objects: dict[str, list[int]] = {}
    for entity, boxes in of_entity.items():
        objects[entity] = list(range(len(found), len(found) + len(boxes)))
        found += [Instance(entity, (x * across, y * down, w * across, h * down), False, None) for x, y, w, h in boxes]
    return found, objects


def _sentence(line: str, objects: dict[str, list[int]], where: str, counts: Counter[str]) -> Sentence:
    """A caption and its phrases with boxes. Raises: InputError, a phrase does not end."""
    tokens: list[str] = []
    phrases: list[Phrase] = []
    at = 0
    for part in _PART.finditer(line):
        if part.start() != at:
            break
        at = part.end()
        entity, kinds, phrase, plain = part.groups()
        words = tokenize(plain if entity is None else phrase)
        if entity is not None and words:
            boxes = objects.get(entity, [])
            counts["not visual" if entity == NOT_VISUAL else "kept" if boxes else "without"] += 1
            if boxes and entity != NOT_VISUAL:
                phrases.append(Phrase(len(tokens), len(tokens) + len(words), kinds.split("/")[1], boxes))
        tokens += words
    if at != len(line):
        raise InputError(f"{where}: {line[at : at + 30]!r} is not a phrase like [/EN#12/people A man], or runs past its caption")
    return Sentence(tuple(tokens), phrases)
