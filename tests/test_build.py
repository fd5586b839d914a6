"""Of a configuration nothing is built but what conf offers; errors begin with the key of the value at fault."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captioner.attention.locality import Everywhere
from captioner.attention.score import Dot
from captioner.build import build
from captioner.encoders.small import SmallConv
from captioner.errors import InputError

SMALL = "captioner.encoders.small.SmallConv"


def test_a_configuration_becomes_the_object_with_late_arguments_winning() -> None:
    encoder = build({"_target_": SMALL, "channels": [5, 7], "blocks": [0, 0], "features": 9}, features=17)
    assert isinstance(encoder, SmallConv)
    assert encoder.features == 17


SCORE = {"_target_": "captioner.attention.score.Dot", "hidden_size": 7, "features": 7}


def attending(**parts: Any) -> dict[str, Any]:
    rooms = {"locality": "locality.Everywhere", "distribution": "distribution.Softmax", "readout": "readout.Expectation"}
    made = {name: {"_target_": f"captioner.attention.{target}"} for name, target in rooms.items()}
    return {"_target_": "captioner.attention.attention.Attention", "features": 7, "score": SCORE, **made, **parts}


def test_nested_parts_are_built_first() -> None:
    attention = build(attending(), "attention")
    assert type(attention.score) is Dot
    assert type(attention.locality) is Everywhere
    wrong = {"_target_": "captioner.attention.locality.MonotonicWindow", "reach": 0.5}
    with pytest.raises(InputError, match=r"^attention\.locality\.reach: reach is"):
        build(attending(locality=wrong), "attention")


HOSTILE = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "torch.load",
    "captioner",
    "captioner.",
    "captioner.bundle",
    "captioner..bundle.save",
    "captioner_evil.attention.Thing",
    "captioner.bundle.os.system",
    "captioner.bundle.save",
    "captioner.bundle.shutil.rmtree",
    "captioner.atomic_files.write_atomically",
    "captioner.cli.main.main",
    "captioner.encoders.small.torch.load",
    "captioner.encoders.small.torch",
    "captioner.encoders.small.math",
    "captioner.encoders.small.nn.Linear",
    "captioner.encoders.small.Sequence",
    "captioner.encoders.small._convolution",
    "captioner.encoders.small.SmallConv.forward",
    "captioner.encoders.small.SmallConv.__init__.__globals__",
    "captioner.encoders.small.__builtins__",
    "captioner.encoders.trunk._CUTS",
    "captioner.encoders.small.Absent",
    "captioner.encoders.absent.Thing",
    "captioner.encoders.trunk.Path",
    "captioner.encoders.trunk.log",
    "captioner.encoders.encoder.Encoder",
    "captioner.data.images.open_image",
    "captioner.training.run.train",
    "captioner.training.writer.link_latest",
    "lightning.pytorch.Trainer.fit",
    "",
    " captioner.encoders.small.SmallConv",
    "../evil",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_target_that_conf_does_not_offer_is_refused_by_name(target: str) -> None:
    hidden = ({"_target_": SMALL, "channels": [{"_target_": target}]}, attending(score={"_target_": target}))
    for config, place in (({"_target_": target}, "callbacks.mine"), ({"_target_": target}, None), *((whole, None) for whole in hidden)):
        with pytest.raises(InputError, match="refused") as caught:
            build(config, place)
        assert repr(target) in str(caught.value)
        assert "\n" not in str(caught.value)


@given(st.text(max_size=40) | st.integers() | st.none() | st.lists(st.text(max_size=3)))
def test_nothing_that_is_no_target_is_built(target: Any) -> None:
    with pytest.raises(InputError):
        build({"_target_": target})


def test_each_place_builds_what_conf_offers_there_and_nothing_else() -> None:
    assert build({"_target_": SMALL}, "encoder")
    assert build({"_target_": "captioner.search.sampling.Sampling"}, "validation.search")
    for place in ("decoder", "search", "encoder.small", "encoders", "", "callbacks.small", "encoder[0]"):
        with pytest.raises(InputError, match=r"refused: at this key conf/ offers .*|refused: conf/ offers nothing") as caught:
            build({"_target_": SMALL}, place)
        assert repr(SMALL) in str(caught.value)


def test_nothing_is_built_before_all_of_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(Dot, "__init__", lambda *_, **__: made.append("score"))
    with pytest.raises(InputError, match=r"readout: _target_ 'os\.system' is refused"):
        build(attending(readout={"_target_": "os.system"}), "attention")
    assert not made


def test_a_configuration_nested_too_deep_is_refused() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"x": deep}
    with pytest.raises(InputError, match="nested"):
        build({"_target_": SMALL, "channels": deep}, "encoder")


def test_partial_is_of_use_only_where_arguments_come_late() -> None:
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "betas": [0.5, 0.6]}
    assert build(adam, "optimizer.optimizer")([nn.Parameter(torch.zeros(1))]).defaults["betas"] == (0.5, 0.6)
    for key, value in (("_partial_", "yes"), ("_args_", [1]), ("_recursive_", False), ("_convert_", "all")):
        with pytest.raises(InputError, match=f"{key}' of torch.optim.Adam means nothing"):
            build({**adam, key: value}, "optimizer.optimizer")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": SMALL, "chanels": [3]}, r"SmallConv: .*'chanels'; it takes channels, kernels"),
        ({"_target_": SMALL, "_partial_": True}, "_partial_"),
        ({"_target_": SMALL, 3: True}, "3"),
        ({"_target_": SMALL, "blocks": [1, -1]}, r"SmallConv: blocks must be"),
        ({"_target_": "captioner.encoders.trunk.Trunk", "name": "resnet18"}, r"Trunk: .*'features'"),
        ({}, "_target_"),
        ({"encoder": {"_target_": SMALL}}, "_target_"),
        ([], "mapping"),
        (3, "mapping"),
    ],
)
def test_wrong_arguments_are_named_with_their_target(config: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(config)


OPTIMIZER = {
    "_target_": "captioner.training.optimization.build_optimizer",
    "_partial_": True,
    "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "betas": [0.5, 0.6]},
    "lr": 0.1,
    "encoder_lr": 0.1,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": -1.0}, r"^optimizer\.lr: lr is a learning rate"),
        ({"lr": "fast"}, r"^optimizer\.lr: lr has to be a number"),
        ({"weight_decay": -1.0}, r"^optimizer\.weight_decay: weight_decay must not be negative"),
        ({"optimizer": {**OPTIMIZER["optimizer"], "betas": [2.0, 0.5]}}, r"^optimizer\.optimizer: "),
    ],
    ids=str,
)
def test_what_is_refused_by_a_later_call_has_its_key_too(changes: dict[str, Any], message: str) -> None:
    captioner = nn.ModuleDict({"encoder": nn.Linear(1, 1)})
    assert build(OPTIMIZER, "optimizer")(captioner).defaults["betas"] == (0.5, 0.6)
    with pytest.raises(InputError, match=message):
        build({**OPTIMIZER, **changes}, "optimizer")(captioner)


def test_an_argument_of_run_time_is_not_called_a_key() -> None:
    config = {"_target_": SMALL, "channels": [5, 7], "blocks": [0, 0]}
    with pytest.raises(InputError, match=r"^encoder: features must be 17"):
        build(config, "encoder", features=3)
    with pytest.raises(InputError, match=r"^encoder\.features: features must be 17"):
        build({**config, "features": 3}, "encoder")
