"""Every file of conf/ composes, and what it describes exists and takes what the file gives it."""

import importlib
import inspect
from functools import cache
from typing import Any

import pytest
import torchvision
from kinds import encoder_config
from omegaconf import OmegaConf

from captioner.encoders.encoder import backbone_config
from captioner.errors import InputError
from captioner.kinds import conf_folder, targets
from captioner.training.configuration import compose_run, groups, plain

GROUPS = groups(conf_folder())
CHOICES = [(group, choice) for group, choices in GROUPS.items() for choice in choices if group not in ("data", "encoder")]
NEEDS = {"logger/tensorboard", "logger/wandb"}
"""Choices whose classes may not be installed: extras."""
PROMISED = "data encoder attention decoder objective search optimizer scheduler trainer logger callbacks experiment debug"


@cache
def composed(*words: str) -> dict[str, Any]:
    return plain(compose_run(words))


def section(config: dict[str, Any], key: str) -> Any:
    return OmegaConf.select(OmegaConf.create(config), key)


def check_targets(config: dict[str, Any]) -> None:
    for key, target in targets(config):
        module, _, name = target.rpartition(".")
        made = getattr(importlib.import_module(module), name)
        given = [name for name in section(config, key) if not name.startswith("_")]
        accepted = inspect.signature(made).parameters
        free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
        assert free or set(given) <= set(accepted), f"{key}: {target} does not take {set(given) - set(accepted)}"


def test_the_groups_are_those_promised() -> None:
    assert sorted({group.split("/")[0] for group in GROUPS}) == sorted(PROMISED.split())


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda part: part)
def test_every_choice_of_every_group_composes_and_its_targets_take_its_keys(group: str, choice: str) -> None:
    config = composed(*["objective=hard"] * group.startswith("objective/"), f"{group}={choice}")
    if f"{group}/{choice}" in NEEDS:
        config = {**config, "logger": {}}
    check_targets({key: value for key, value in config.items() if key != "data"})


@pytest.mark.parametrize("kind", GROUPS["encoder"])
def test_every_encoder_takes_its_keys_and_states_its_features(kind: str) -> None:
    config = encoder_config(kind)
    check_targets({"encoder": config})
    assert isinstance(config["features"], int)


@pytest.mark.parametrize("kind", GROUPS["data"])
def test_every_data_kind_takes_its_keys_beside_those_of_loading(kind: str) -> None:
    from captioner.training.run_parts import LOADING, PREPARING

    data = composed(f"data={kind}")["data"]
    assert set(data) >= {*LOADING, *PREPARING}
    check_targets({"data": {key: value for key, value in data.items() if key not in (*LOADING, *PREPARING)}})


def test_the_command_line_wins_over_an_experiment() -> None:
    config = composed("experiment=coco", "encoder=resnet50", "trainer.max_epochs=3", "data=captions")
    assert config["encoder"]["name"] == "resnet50"
    assert config["trainer"]["max_epochs"] == config["scheduler"]["epochs"] == 3
    assert config["data"]["_target_"].endswith("CaptionFiles")
    assert config["decoder"]["attention"]["features"] == config["decoder"]["features"] == 2048


@pytest.mark.parametrize("kind", [kind for kind in GROUPS["encoder"] if encoder_config(kind)["_target_"].endswith(".Trunk")])
def test_every_trunk_states_the_images_that_torchvision_s_weights_want(kind: str) -> None:
    stated = encoder_config(kind)
    wanted: Any = torchvision.models.get_model_weights(stated["name"]).DEFAULT.transforms()
    seen = {"size": wanted.crop_size[0], "fit": "crop", "mean": wanted.mean, "std": wanted.std}
    assert stated["images"] == {**seen, "interpolation": wanted.interpolation.value}


@pytest.mark.parametrize(
    "words",
    [
        ["data=karpathy", "encoder=resnet50"],
        ["data=folder", "encoder=small"],
        ["data=scenes", "encoder=efficientnet_b3"],
        ["data=coco", "encoder=timm"],
        ["data=captions", "encoder=self_attention", "encoder@encoder.trunk=swin_v2_t"],
        ["encoder=self_attention", "encoder@encoder.trunk=self_attention", "encoder@encoder.trunk.trunk=efficientnet_b5"],
    ],
    ids=" ".join,
)
def test_images_are_prepared_as_the_encoder_wants_them(words: list[str]) -> None:
    config = composed(*words)
    trunk = backbone_config(config["encoder"])
    assert {key: config["transform"][key] for key in trunk["images"]} == trunk["images"] == config["encoder"]["images"]


def test_images_are_prepared_otherwise_where_an_override_says_so() -> None:
    own = composed("data=karpathy", "encoder=resnet50")["transform"]
    said = composed("data=karpathy", "encoder=resnet50", "transform.size=[64,128]", "transform.fit=squash")["transform"]
    assert said == {**own, "size": [64, 128], "fit": "squash"}


@pytest.mark.parametrize("kind", [kind for kind in GROUPS["data"] if kind != "scenes"])
def test_photographs_choose_a_trunk_of_photographs_unless_another_is_named(kind: str) -> None:
    config = composed(f"data={kind}")
    assert (config["encoder"]["name"], config["encoder"]["weights"], config["transform"]["size"]) == ("mobilenet_v2", "default", 224)
    assert config["decoder"]["features"] == config["encoder"]["features"]


def test_a_named_encoder_or_experiment_wins_over_the_trunk_of_photographs() -> None:
    assert composed("data=folder", "encoder=small")["encoder"]["_target_"].endswith("SmallConv")
    assert composed("experiment=coco", "data=folder")["encoder"]["name"] == "resnet101"


@pytest.mark.parametrize(("words", "fit"), [(["experiment=scenes"], "squash"), (["data=scenes"], "crop"), ([], "crop")])
def test_scenes_reach_the_encoder_as_they_are_drawn(words: list[str], fit: str) -> None:
    transform = composed(*words)["transform"]
    drawn = {"size": 96, "fit": fit, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear"}
    assert {key: transform[key] for key in drawn} == drawn
    assert transform["size"] == composed(*words)["data"]["image_size"]
    assert not transform["augment"]


def test_the_experiments_are_of_the_data_they_are_named_after() -> None:
    kinds = {
        "scenes": "Scenes",
        "coco": "Coco",
        "flickr8k": "CaptionFiles",
        "flickr8k_grounded": "CaptionFiles",
        "flickr8k_hard": "CaptionFiles",
        "flickr8k_scst": "CaptionFiles",
    }
    for experiment in GROUPS["experiment"]:
        assert composed(f"experiment={experiment}")["data"]["_target_"].endswith(kinds[experiment])


def test_coco_is_trained_as_promised() -> None:
    config = composed("experiment=coco")
    assert (config["encoder"]["name"], config["decoder"]["embedding_size"], config["decoder"]["hidden_size"]) == ("resnet101", 512, 512)
    assert config["data"]["batch_size"] == 64
    assert 0 < config["callbacks"]["fine_tune"]["epoch"] < config["trainer"]["max_epochs"]


def test_validation_may_search_otherwise_than_the_final_scores() -> None:
    config = composed("search@validation.search=beam", "search=greedy")
    assert config["validation"]["search"]["beams"] > config["search"]["beams"] == 1


def test_none_can_be_chosen_of_a_group_that_has_no_default_and_of_no_other() -> None:
    assert composed("data=coco", "experiment=null", "debug=null") == composed("data=coco")
    with pytest.raises(InputError, match="encoder=null: one has to be chosen"):
        compose_run(["encoder=null"])


def test_a_choice_that_an_experiment_undoes_is_refused_and_one_that_it_only_shapes_is_not() -> None:
    with pytest.raises(
        InputError, match=r"attention=local: experiment=scenes sets attention/locality=coverage .* say attention/locality=gaussian_window"
    ):
        compose_run(["experiment=scenes", "attention=local"])
    for words in (["attention=local"], ["experiment=scenes", "attention=local", "attention/locality=gaussian_window"]):
        assert section(composed(*words), "attention.locality._target_").endswith("GaussianWindow")
    hard = composed("experiment=scenes", "attention=hard", "objective=hard")
    assert [section(hard, f"attention.{room}._target_").rpartition(".")[2] for room in ("score", "readout")] == ["ScaledDot", "Sample"]
