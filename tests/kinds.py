"""Every kind of a conf group, found by its file; small parts built from the shipped conf."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from captioner.build import build

CONF = Path(__file__).resolve().parent.parent / "conf"
SIZES = {"${encoder.features}": 7, "${decoder.hidden_size}": 6}


def kinds(group: str) -> list[str]:
    found = sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))
    assert found, f"conf/{group} holds no kind"
    return found


def part(group: str, kind: str, **changes: Any) -> dict[str, Any]:
    """The configuration of one kind with small sizes in the place of interpolations."""
    config = yaml.safe_load((CONF / group / f"{kind}.yaml").read_text())
    config = {key: SIZES.get(value, value) if isinstance(value, str) else value for key, value in config.items()}
    if "attention_size" in config:
        config["attention_size"] = 5
    if (group, kind) == ("attention/score", "dot"):  # which needs regions of the query's size
        config["features"] = config["hidden_size"]
    return {**config, **changes}


@cache
def encoder_config(kind: str) -> dict[str, Any]:
    """The configuration of one encoder, with what its file takes from others; read it only."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose(f"encoder/{kind}"), resolve=True)["encoder"]  # type: ignore[call-overload, index, return-value]


def attention(
    score: str = "additive", locality: str = "everywhere", distribution: str = "softmax", readout: str = "expectation", **changes: Any
) -> dict[str, Any]:
    rooms = {"score": score, "locality": locality, "distribution": distribution, "readout": readout}
    parts = {room: part(f"attention/{room}", kind) for room, kind in rooms.items()}
    features = parts["score"]["features"]
    return {"_target_": "captioner.attention.attention.Attention", "features": features, **parts, **changes}


SMALL = {"embedding_size": 4, "hidden_size": 6, "heads": 2, "feedforward_size": 5, "layers": 2, "kernel_size": 3}
"""Of decoders: where a kind has the key."""


def decoder(kind: str, vocabulary_size: int = 11, **changes: Any) -> Any:
    """A small decoder; keys of the attention rooms choose their kinds, the others of `attention` its values."""
    chosen = ("score", "locality", "distribution", "readout", "context_size", "sentinel_size")
    rooms = {key: changes.pop(key) for key in chosen if key in changes}
    config = part("decoder", kind)
    small = {key: SMALL.get(key, value) for key, value in config.items()}
    attention_config = changes.pop("attention", attention(**rooms))
    if "features" in small:
        small["features"] = attention_config["features"]
    return build({**small, "attention": attention_config, **changes}, vocabulary_size=vocabulary_size)


def whole(kind: str) -> dict[str, Any]:
    """One whole choice of conf/attention, its rooms as it names them; where there are heads, two of them on sizes that they divide."""
    config = part("attention", kind)
    rooms = {room: name for default in config.pop("defaults") for room, name in default.items()}
    parts = {room: {**part(f"attention/{room}", name), **config.pop(room, {})} for room, name in rooms.items()}
    if parts["score"]["heads"] > 1:
        parts["score"] = {**parts["score"], "heads": 2, "attention_size": 6}
    return {**config, **parts}


def lstm(vocabulary_size: int = 11, **changes: Any) -> Any:
    return decoder("lstm", vocabulary_size, **changes)
