"""A training that is killed at any moment loses nothing, and the run that goes on ends bit for bit
as the one that never stopped."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_twenty_kills_at_random_moments_lose_nothing_and_end_bit_for_bit_as_no_kill() -> None:
    """`make kills` does it a thousand times."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "20", "--epochs", "2", "--seed", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "20 kills, 0 with something wrong" in process.stdout
