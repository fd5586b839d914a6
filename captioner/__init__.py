"""Image captioning with spatial attention: `from captioner import Captioner, Caption, Ensemble`.

The door opens when it is used (PEP 562), so that what needs no torch imports none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.caption import Caption as Caption
    from captioner.ensemble import Ensemble as Ensemble
    from captioner.model import Captioner as Captioner

__version__ = "0.1.0"
DOOR = {"Caption": "captioner.caption", "Captioner": "captioner.model", "Ensemble": "captioner.ensemble"}
"""Public names, and the modules that they lie in."""
__all__ = ["Caption", "Captioner", "Ensemble", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *DOOR])
