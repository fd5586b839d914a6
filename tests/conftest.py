"""Every annotation of the package is checked while the tests run; real data is found by CAPTIONER_DATA."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import install_import_hook

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands do, before torch is loaded: waiting threads sleep
TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "docs" / "tools")]
install_import_hook("captioner", "checker.checked")

import photos  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("captioner", deadline=None)  # no test is of speed, and two processes of tests share two cores
settings.load_profile("captioner")
torch.set_num_threads(1)  # small models only: more threads are slower, and CI's second core comes and goes


def _as_it_came(log: logging.Logger) -> None:
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Commands arrange the package's log for a terminal, also those that a fixture of a module runs; every test finds it as it came."""
    log = logging.getLogger("captioner")
    _as_it_came(log)
    yield
    _as_it_came(log)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos beside a table of their captions."""
    return photos.write_photos(tmp_path_factory.mktemp("own") / "photos")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; a test that asks for it skips, saying so, where there is none."""
    folder = os.environ.get("CAPTIONER_DATA")
    if not folder:
        pytest.skip("CAPTIONER_DATA is not set: no real data to test on")
    return Path(folder)
