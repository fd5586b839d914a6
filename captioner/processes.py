"""Which of a run's processes this one is. Standard library only."""

import os

STARTED_BY = "CAPTIONER_BEGUN_BY"
"""Environment variable: the process id of the first process of a run on several devices, which began the others."""


def is_first_process() -> bool:
    """Whether this process writes the run's files: of a run on several devices the first does."""
    return next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0") == "0"


def started_by_first_process() -> bool:
    """Whether the run's first process began this one; it leaves signals to that one."""
    return not is_first_process() and os.environ.get(STARTED_BY) == str(os.getppid())
