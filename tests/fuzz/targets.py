"""The targets by name, and each one's share of the cases."""

import annotation_files
import caption_tables
import command_lines
import image_files
import model_folders
from driver import Make

TARGETS: dict[str, Make] = {
    "command_lines": command_lines.make,
    "annotation_files": annotation_files.make,
    "caption_tables": caption_tables.make,
    "model_folders": model_folders.make,
    "image_files": image_files.make,
}
SHARES = {"command_lines": 0.2, "annotation_files": 0.25, "caption_tables": 0.15, "model_folders": 0.25, "image_files": 0.15}


def share(name: str, cases: int) -> int:
    return round(SHARES[name] * cases)


def reproduction(name: str, seed: int, number: int) -> str:
    return f"python tests/fuzz --target {name} --seed {seed} --case {number}"
