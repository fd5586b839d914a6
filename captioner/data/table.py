"""Tables of captions as people have them, whatever their encoding, separator and headers -> rows of names, captions and splits."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captioner.data.source import SPLITS
from captioner.errors import InputError

NAMES = (
    *("file_name", "filename", "image", "image_name", "image_file", "image_path", "img", "img_name", "img_path"),
    *("file", "file_path", "filepath", "path", "photo", "picture", "name", "image_id", "img_id", "id"),
)
"""Columns that may name the image: the first of these that a table has does."""
CAPTIONS = ("caption", "captions", "text", "texts", "comment", "comments", "sentence", "sentences", "description", "descriptions", "raw")
"""Columns that may hold the caption, or a list of captions; `caption_0`, `caption_1` ... may each hold one."""
NUMBERED = re.compile(r"(?:caption|text|comment|sentence|description)s?_?\d+")
SPLIT_COLUMNS = ("split", "subset", "partition")
SPLIT_NAMES = {"training": "train", "restval": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
SPLIT_NAMES |= {split: split for split in SPLITS}
SEPARATORS = {"\t": "tabs", "|": "|", ";": ";", ",": "commas"}
ENDING = re.compile(r".+\.(?:jpe?g?|jfif|png|webp|gif|bmp|tiff?|ppm|pgm|avif|heic|heif)(?:#\d+)?", re.IGNORECASE)
"""What the name of an image looks like, in a table without a header; Flickr8k's have the caption's number after `#`."""
COUNTED = re.compile(r"(\.\w+)#\d+$")
ACCEPTED = "a first line that names the columns (file_name and caption, say), lines NAME<tab>CAPTION, or a JSON object a line"


class Row(NamedTuple):
    line: int
    name: str
    captions: list[str]
    """May be empty."""
    split: str | None


class Table(NamedTuple):
    rows: list[Row]
    how: str
    """How the file was read, for the log."""
    blank: list[int]
    """The lines of captions that hold nothing, which are left out."""


Cells = tuple[int, Mapping[str, Any]]
"""(line, value by column, the columns' names evened out)."""


def read_table(path: Path) -> Table:
    """Raises: InputError, the first thing wrong in the file, by line."""
    text, encoding = decode_text(path)
    start = text.lstrip()[:1]
    cells, how = json_rows(path, text) if start in ("{", "[") else delimited_rows(path, text)
    rows, blank = [], []
    for line, row in cells:
        said, empty = captions_of(f"{path} line {line}", row)
        name = file_name_of(row)
        if name is None:
            raise InputError(f"{path} line {line}: `file_name` is missing or empty: which image is it?")
        blank += [line] * empty
        rows.append(Row(line, name, said, split_of(f"{path} line {line}", row)))
    return Table(rows, f"{how}, {encoding}", blank)


def decode_text(path: Path) -> tuple[str, str]:
    """(text with `\\n` at the ends of lines, the encoding's name): UTF-8 or UTF-16, with or without a mark. Raises: InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: the table of captions cannot be read ({error.strerror or error})") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in data:  # no UTF-8 text holds one; in UTF-16 every comma and every end of a line does
        encoding = "utf-16-be" if data[::2].count(0) > data[1::2].count(0) else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        told = f"line {line} is neither UTF-8 nor UTF-16 text (byte 0x{data[error.start]:02x})"
        raise InputError(f"{path}: {told}; save the table of captions as text in UTF-8") from None
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), "UTF-8" if encoding == "utf-8-sig" else "UTF-16"


def column_kind(header: str) -> str:
    """`File Name`, `file-name` and `"file_name"` are one column."""
    return re.sub(r"[\s.-]+", "_", header.strip().strip("\"'\ufeff").strip()).casefold()


def file_name_of(row: Mapping[str, Any]) -> str | None:
    values = (row[key] for key in NAMES if key in row)
    name = next((value for value in values if isinstance(value, str | int) and not isinstance(value, bool)), None)
    return COUNTED.sub(r"\1", str(name).strip()) or None if name is not None else None


def is_caption(key: str) -> bool:
    return key in CAPTIONS or NUMBERED.fullmatch(key) is not None


def captions_of(where: str, row: Mapping[str, Any]) -> tuple[list[str], int]:
    """(what the row says, how many of its captions are blank: of numbered columns only where all are). Raises: InputError, no text."""
    plain = next((key for key in CAPTIONS if key in row), None)
    keys = [key for key in row if key == plain or NUMBERED.fullmatch(key)]
    values = [text_of(f"{where}: `{key}`", value) for key in keys for value in listed(row[key])]
    found = [value for value in values if value]
    return found, int(not found) if len(keys) != 1 or not values else len(values) - len(found)


def text_of(what: str, value: Any) -> str:
    value = value.get("raw") if isinstance(value, Mapping) else value  # a sentence of Karpathy's
    if value is not None and not isinstance(value, str):
        raise InputError(f"{what} must be a string or a list of strings, found {value!r:.40}")
    return (value or "").strip()


def listed(value: Any) -> list[Any]:
    """A cell's captions: itself, or those of the JSON list that it holds."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            inside = json.loads(value)
        except ValueError:
            return [value]
        return inside if isinstance(inside, list) and all(isinstance(one, str) for one in inside) else [value]
    return value if isinstance(value, list) else [value]


def split_of(where: str, row: Mapping[str, Any]) -> str | None:
    spelt = next((row[key] for key in SPLIT_COLUMNS if key in row), None)
    if spelt is None or (isinstance(spelt, str) and not spelt.strip()):
        return None
    split = SPLIT_NAMES.get(spelt.strip().lower()) if isinstance(spelt, str) else None
    if split is None:
        raise InputError(f"{where}: `split` must be train, val or test, found {spelt!r}")
    return split


def json_rows(path: Path, text: str) -> tuple[Iterator[Cells], str]:
    """An object a line, a list of objects, or one object of captions by name."""
    whole = whole_json(text)
    if isinstance(whole, list):
        return (check_columns(path, number, row) for number, row in enumerate(whole, 1)), "a JSON list"
    if isinstance(whole, dict) and isinstance(whole.get("images"), list):
        kind = "data=captions" if "annotations" in whole else "data=karpathy"
        raise InputError(f"{path}: is no table but a whole data set in one JSON object; {kind} reads it")
    if isinstance(whole, dict) and whole and not any(column_kind(key) in NAMES or is_caption(column_kind(key)) for key in whole):
        return ((1, {"file_name": name, "captions": said}) for name, said in whole.items()), "a JSON object of captions by name"
    return json_lines(path, text), "JSON lines"


def whole_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def json_lines(path: Path, text: str) -> Iterator[Cells]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path} line {number}: not JSON ({error.msg})") from None
        except (ValueError, RecursionError) as error:  # a number of too many digits; brackets too deep
            raise InputError(f"{path} line {number}: not JSON ({error})") from None
        yield check_columns(path, number, row)


def check_columns(path: Path, line: int, row: Any) -> Cells:
    if not isinstance(row, dict):
        raise InputError(f"{path} line {line}: expected a JSON object")
    return line, {column_kind(key): value for key, value in row.items()}


def delimited_rows(path: Path, text: str) -> tuple[Iterator[Cells], str]:
    """With a header or, where the first line begins with an image's name, without."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    cut = {separator: split_line(first, separator) for separator in SEPARATORS}
    for separator, header in cut.items():
        columns = number_columns([column_kind(cell) for cell in header])
        if any(name in NAMES for name in columns) and any(map(is_caption, columns)):
            used = next(name for name in NAMES if name in columns), *filter(is_caption, columns)
            how = f"separated by {SEPARATORS[separator]}, columns {' and '.join(used)}"
            return rows_of(path, text, separator, columns, header=True), how
    for separator, cells in cut.items():
        if len(cells) == 2 and ENDING.fullmatch(cells[0].strip()):
            how = f"separated by {SEPARATORS[separator]}, without a header: name and caption"
            return rows_of(path, text, separator, ["file_name", "caption"], header=False), how
    found = ", ".join(cell.strip() for cell in max(cut.values(), key=len)) if first else "nothing"
    raise InputError(f"{path}: the first line must name the columns file_name and caption, found {found:.200}; a table is {ACCEPTED}")


def number_columns(columns: Sequence[str]) -> list[str]:
    """Five columns `caption` become `caption`, `caption_1` ... `caption_4`."""
    return [f"{name}_{columns[:at].count(name)}" if is_caption(name) and name in columns[:at] else name for at, name in enumerate(columns)]


def split_line(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except (csv.Error, StopIteration):
        return line.split(separator)


def rows_of(path: Path, text: str, separator: str, columns: Sequence[str], header: bool) -> Iterator[Cells]:
    for number, (line, cells) in enumerate(cut_lines(path, text, separator)):
        if header and number == 0:
            continue
        if any(cell.strip() for cell in cells[len(columns) :]):
            told = f"put captions that hold {'commas' if separator == ',' else 'separators'} in double quotes"
            raise InputError(f"{path} line {line}: more fields than columns; {told}")
        yield line, dict(zip(columns, cells, strict=False))


def cut_lines(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Between tabs or bars quotes may be letters like others: where they do not pair, they are."""
    if separator in "\t|":
        try:
            return iter(list(cut_cells(path, text, separator)))
        except InputError:
            lines = enumerate(text.split("\n"), 1)
            return ((number, line.split(separator)) for number, line in lines if line.strip(f" {separator}"))
    return cut_cells(path, text, separator)


def cut_cells(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(the line where the row begins, its cells), as spreadsheets write them; blank lines are left out."""
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path} line {line}: {error}") from None
        if any(cell.strip() for cell in cells):
            yield line, cells
