"""What `captioner evaluate` found, as a table and as sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WORDS = {"vocabulary": "{:.0f}", "length": "{:.1f}"}
"""Counts of words; all else is a score or a share."""
LEVEL = 0.05
"""Equal systems are called different in this share of comparisons at most."""


def table(record: Mapping[str, Any], all_images: int) -> str:
    """A line a score, x 100, with its interval where there is one; with `compare`, the other system and the difference beside it."""
    systems = [record, *([record["compare"]] if "compare" in record else [])]
    gains = record.get("differences", {})
    heads = ["A", "B", "A - B"] if gains else ["x 100"]
    lines = [["", *(cell for head in heads for cell in (head, "95 % interval"))]]
    for name in dict.fromkeys(name for system in systems for name in scores_of(system)):
        cells = [name]
        for system in systems:
            cells += [hundredth(scores_of(system).get(name)), interval(system.get("intervals", {}).get(name))]
        if gains:
            gain = gains.get(name, {})
            cells += [hundredth(gain.get("value"), "+"), interval([gain["low"], gain["high"]] if gain else None, "+")]
        lines.append(cells)
    scored = f"{record['images']}" if record["images"] == all_images else f"{record['images']} of {all_images}"
    lines.append(["images", *(cell for _ in systems for cell in (scored, ""))])
    for name in record.get("diversity", {}):
        lines.append([name, *(cell for system in systems for cell in (WORDS.get(name, "{:.1f}").format(shown(name, system)), ""))])
    return aligned(lines)


def scores_of(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if isinstance(value, float)}


def shown(name: str, record: Mapping[str, Any]) -> float:
    return record["diversity"][name] * (1 if name in WORDS else 100)


def hundredth(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{100 * value:{sign}.1f}"


def interval(ends: Sequence[float] | None, sign: str = "") -> str:
    return "" if ends is None else f"[{', '.join(hundredth(end, sign) for end in ends)}]"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right; a column without a cell is left out."""
    width = max(map(len, lines))
    padded = [[*line, *[""] * (width - len(line))] for line in lines]
    columns = [column for column in zip(*padded, strict=True) if any(column[1:])]
    sizes = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join("  ".join([row[0].ljust(sizes[0]), *map(str.rjust, row[1:], sizes[1:])]).rstrip() for row in rows)


def sentences(record: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Who A and B are, and for every score which is better, or that the difference may be noise; nothing without a comparison."""
    if "differences" not in record:
        return
    yield f"A is {names[0]}, B is {names[1]}"
    for name, gain in record["differences"].items():
        value, p = gain["value"], gain["p"]
        if value == 0:
            yield f"A and B have the same {name}"
            continue
        better, worse, ends = ("A", "B", [gain["low"], gain["high"]]) if value > 0 else ("B", "A", [-gain["high"], -gain["low"]])
        told = f"{hundredth(abs(value))} {interval(ends)}, {chance(p)}"
        if p < LEVEL:
            yield f"{better} is better than {worse} on {name} by {told}"
        else:
            yield f"{better} scores higher than {worse} on {name} by {told}, which may be noise"


def chance(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
