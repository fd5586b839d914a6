"""Seeded changes of valid things, at several levels: bytes, JSON, lines and cells of a table, words of a command line."""

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

RAW = "<<raw:%s>>"
"""A string that `json_text` writes without quotes: numbers and nests that Python's own writer would never write."""
LONG, DEEP, DEEPEST = 100_000, 200, 100_000

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 7, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30),
    *(1.0, 0.5, -0.0, 1e308, 1e-320, math.nan, math.inf, -math.inf, RAW % "1e999", RAW % ("9" * 5000), RAW % "-0"),
)
STRINGS: tuple[str, ...] = (
    *("", " ", "\n", "a\nb", "a\tb", "\x00", "a\x00b", "\ud800", "\udcff", "\ufeff", "\u202eabc", "\u2028", "\x1b[31m"),
    *("é", "e\u0301", "猫が走る", "กินข้าว", "हिन्दी में", "😀" * 3, "ﬀ", "İ", "ß"),
    *("../../../etc/passwd", "/etc/passwd", "/", ".", "..", "C:\\x\\y", "a/b/c", "~", "-", "--help", "con", "x" * 300, "a/" * 3000),
    *(
        "${oc.env:HOME}",
        "${x}",
        "${",
        "???",
        "null",
        "true",
        "1",
        "1.0",
        "1e5",
        "nan",
        "%s%n",
        "{}",
        "{0.__class__}",
        "=",
        "a=b",
        ",",
        "'",
        '"',
    ),
    *(
        "os.system",
        "captioner.atomic_files.write_atomically",
        "captioner.bundle.torch.load",
        "builtins.eval",
        "<unk>",
        "<end>",
        "<b>&amp;</b>",
    ),
)
HUGE_STRINGS: tuple[str, ...] = ("word " * 5_000, "x" * LONG)
VALUES: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], [None], [1, 2], {"": None}, {"a": {"b": 1}}, {"_target_": "os.system", "command": "touch broken"}),
    *(RAW % ("[" * DEEP + "]" * DEEP), RAW % ("[" * DEEPEST + "]" * DEEPEST), RAW % ('{"a":' * DEEP + "1" + "}" * DEEP)),
)


def odd(rng: random.Random) -> Any:
    """A value that few expect."""
    return copy.deepcopy(rng.choice(rng.choices((NUMBERS, STRINGS, VALUES, HUGE_STRINGS), (8, 10, 6, 1))[0]))


def several(rng: random.Random, change: Callable[[random.Random, Any], Any], thing: Any) -> Any:
    """One, two or three changes, one after another."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        thing = change(rng, thing)
    return thing


# bytes


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut, insert, repeat, delete, or put something before or behind."""
    if not data:
        return rng.randbytes(rng.randrange(40))
    at, size = rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 200))
    span = data[at : at + size]
    return rng.choice(
        (
            lambda: data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :],
            lambda: data[:at] + rng.randbytes(len(span)) + data[at + len(span) :],
            lambda: data[:at],
            lambda: data[: min(len(data), size)],
            lambda: data[:at] + rng.randbytes(size) + data[at:],
            lambda: data[:at] + span * rng.choice((2, 3, 50)) + data[at + len(span) :],
            lambda: data[:at] + data[at + len(span) :],
            lambda: data[:at] + bytes(len(span)) + data[at + len(span) :],
            lambda: data[:at] + b"\xff" * len(span) + data[at + len(span) :],
            lambda: b"\xef\xbb\xbf" + data,
            lambda: data + rng.randbytes(size),
            lambda: data + data,
            lambda: b"",
        )
    )()


# JSON


def change_json(rng: random.Random, tree: Any) -> Any:
    """Another value, key, type or nesting somewhere in a tree of dicts, lists and plain values; the tree given stays."""
    tree = copy.deepcopy(tree)
    places = list(slots(tree))
    if not places or rng.random() < 0.02:
        return odd(rng)
    holder, key = rng.choice(shallow(rng, places))[1:]
    rng.choice((replace, replace, replace, drop, rename, retype, retype, wrap, repeat, swap))(rng, tree, holder, key)
    return tree


def slots(tree: Any, depth: int = 0) -> Any:
    """(depth, holder, key) of every value below a tree's root."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()):
        yield depth, tree, key
        yield from slots(value, depth + 1)


def shallow(rng: random.Random, places: list[Any]) -> list[Any]:
    """The places of one depth, so that the few near the root are met as often as the many below."""
    depth = rng.choice(sorted({place[0] for place in places}))
    return [place for place in places if place[0] == depth]


def replace(rng: random.Random, _: Any, holder: Any, key: Any) -> None:
    holder[key] = odd(rng)


def drop(_: random.Random, __: Any, holder: Any, key: Any) -> None:
    del holder[key]


def rename(rng: random.Random, _: Any, holder: Any, key: Any) -> None:
    if isinstance(holder, dict) and isinstance(key, str):
        holder[rng.choice((key.upper(), key + "s", key[:-1], f" {key}", "", "_target_", rng.choice(STRINGS)))] = holder.pop(key)
    elif isinstance(holder, list):
        rng.shuffle(holder)


def retype(_: random.Random, __: Any, holder: Any, key: Any) -> None:
    """1 -> "1", "1" -> ["1"], [1] -> 1, {"a": 1} -> [1]."""
    value = holder[key]
    if isinstance(value, bool) or value is None:
        holder[key] = str(value).lower()
    elif isinstance(value, int | float):
        holder[key] = str(value)
    elif isinstance(value, str):
        holder[key] = [value]
    elif isinstance(value, dict):
        holder[key] = list(value.values())
    else:
        holder[key] = value[0] if isinstance(value, list) and value else {}


def wrap(rng: random.Random, _: Any, holder: Any, key: Any) -> None:
    holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}


def repeat(rng: random.Random, _: Any, holder: Any, key: Any) -> None:
    """The entry once more; of an object, a key that stands twice."""
    if isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[RAW % key] = odd(rng)


def swap(rng: random.Random, tree: Any, holder: Any, key: Any) -> None:
    """A value of elsewhere in the tree in this one's place."""
    _, other, its = rng.choice(list(slots(tree)))
    holder[key] = copy.deepcopy(other[its])


def json_text(rng: random.Random, tree: Any) -> bytes:
    """As a JSON file: what is raw without quotes, mostly in UTF-8."""
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
    before, _, rest = RAW.partition("%s")
    parts = text.split(f'"{before}')
    for index, part in enumerate(parts[1:], 1):
        inner, _, after = part.partition(f'{rest}"')
        key = after.lstrip().startswith(":")
        parts[index] = (f'"{inner}"' if key else json.loads(f'"{inner}"')) + after
    return encoded(rng, "".join(parts))


def encoded(rng: random.Random, text: str) -> bytes:
    """In UTF-8, or now and then in what people have too."""
    coding = rng.choices(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"), (30, 2, 2, 1, 1, 2))[0]
    try:
        return text.encode(coding)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


# tables


def change_table(rng: random.Random, text: str) -> str:
    """Other lines, cells, separators, quotes and line ends in a table of captions."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    cells = lines[at].split(",")
    cell = rng.randrange(len(cells))
    strange = str(rng.choice((*STRINGS, *HUGE_STRINGS, *NUMBERS[:10])))

    def with_cell(new: str) -> str:
        return "\n".join([*lines[:at], ",".join([*cells[:cell], new, *cells[cell + 1 :]]), *lines[at + 1 :]])

    return rng.choice(
        (
            lambda: with_cell(strange),
            lambda: with_cell(strange),
            lambda: with_cell('"' + cells[cell]),
            lambda: with_cell(cells[cell].upper()),
            lambda: with_cell(f"{cells[cell]},{cells[cell]}"),
            lambda: with_cell(f"{cells[cell]}#{rng.randrange(9)}"),
            lambda: "\n".join(lines[:at] + lines[at + 1 :]),
            lambda: "\n".join([*lines[:at], lines[at], *lines[at:]]),
            lambda: "\n".join(lines[1:]),
            lambda: "\n".join([lines[0], lines[0], *lines[1:]]),
            lambda: "\n".join([*lines[:at], strange, *lines[at:]]),
            lambda: text.replace(",", rng.choice((";", "\t", "|", "| ", "  ", ",,"))),
            lambda: text.replace("\n", rng.choice(("\r\n", "\r", "\n\n", " \n", "\u2028", "\x00\n"))),
            lambda: text.replace('"', rng.choice(("", "'", '""'))),
            lambda: text.replace("/", "\\"),
            lambda: text[: rng.randrange(len(text) + 1)],
            lambda: text.replace(lines[0], lines[0].title()),
        )
    )()


# command lines


def typed(text: str) -> str:
    """The text as an operating system hands it over: without NULs, and of lone surrogates only those that stand for bytes."""
    kept = (letter for letter in text if letter != "\0" and not ("\ud800" <= letter < "\udc80" or "\udcff" < letter <= "\udfff"))
    return "".join(kept)


def change_word(rng: random.Random, word: str) -> str:
    """A slip of the keyboard, a strange value, another operator, quotes and brackets that do not close."""
    key, equals, value = word.partition("=")
    at = rng.randrange(len(word) + 1)
    strange = typed(str(rng.choice((*STRINGS, *NUMBERS[:19], *VALUES[:9]))))
    quote = rng.choice(("'", '"', "[", "{", "(", "]", "\\", "$", "${", "}"))
    return rng.choice(
        (
            lambda: f"{key}={strange}" if equals else strange,
            lambda: f"{key}={strange}" if equals else strange,
            lambda: f"{key}={strange}" if equals else strange,
            lambda: f"{key}={value}={value}",
            lambda: key,
            lambda: f"{key}=",
            lambda: f"={value}",
            lambda: rng.choice(("+", "++", "~", "-", "--", "@", "#", "/")) + word,
            lambda: word[:at] + word[at + 1 :],
            lambda: word[:at] + rng.choice("abcxyz01._-/@:=, é猫\udce9\n\t") + word[at:],
            lambda: word[:at] + quote + word[at:],
            lambda: f"{key}={quote}{value}",
            lambda: f"{key}=[{value},{value}]" if equals else f"[{word}]",
            lambda: f"{key}={{a:{value}}}" if equals else f"{{{word}}}",
            lambda: f"{key}={value},{value}",
            lambda: f"{key}.{rng.choice(('a', '0', '_target_', ''))}={value}",
            lambda: word.upper(),
            lambda: "",
        )
    )()


def change_words(rng: random.Random, words: list[str]) -> list[str]:
    """Words changed, dropped, repeated, moved or cut in two."""
    words = list(words)
    if not words:
        return [typed(rng.choice(STRINGS))]
    at = rng.randrange(len(words))
    kind = rng.choice(("change",) * 6 + ("drop", "repeat", "move", "cut", "add"))
    if kind == "change":
        words[at] = typed(change_word(rng, words[at]))
    elif kind == "drop":
        del words[at]
    elif kind == "repeat":
        words.insert(rng.randrange(len(words) + 1), words[at])
    elif kind == "move":
        words.insert(rng.randrange(len(words)), words.pop(at))
    elif kind == "cut":
        half = len(words[at]) // 2
        words[at : at + 1] = [words[at][:half], words[at][half:]]
    else:
        words.insert(at, typed(rng.choice(STRINGS)))
    return words
