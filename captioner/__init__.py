"""Image captioning with spatial attention: `from captioner import Captioner, Caption, Ensemble`.

The door opens when it is used (PEP 562), so that what needs no torch imports none.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.ensemble import Ensemble as Ensemble
    from captioner.model import Caption as Caption
    from captioner.model import Captioner as Captioner

__version__ = "0.1.0"
__all__ = ["Caption", "Captioner", "Ensemble", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Caption", "Captioner"):
        from captioner import model

        return getattr(model, name)
    if name == "Ensemble":
        from captioner import ensemble

        return ensemble.Ensemble
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "Caption", "Captioner", "Ensemble"])
