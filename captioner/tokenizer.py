"""Captions -> tokens as the COCO scorers make them. Standard library only."""

import re

_TOKEN = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")


def tokenize(caption: str) -> list[str]:
    return _TOKEN.findall(caption.lower())
