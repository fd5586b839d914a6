"""Self-attention over regions: compared with PyTorch's layer; masks, positions, a frozen trunk."""

import pytest
import torch
from torch import Tensor, nn

from captioner.encoders.encoder import as_regions, grid_cells
from captioner.encoders.self_attention import SelfAttention, position_encoding
from captioner.encoders.small import SmallConv
from captioner.encoders.trunk import Trunk
from captioner.records import Regions


def encoder(**changes: object) -> SelfAttention:
    torch.manual_seed(0)
    trunk = SmallConv(channels=(5,), kernels=(3,), strides=(2,), blocks=(0,))
    return SelfAttention(trunk, **({"features": 12, "layers": 2, "heads": 3, "hidden": 7, "dropout": 0.0} | changes)).double().eval()


def regions(images: int = 2, rows: int = 3, cols: int = 5) -> Regions:
    torch.manual_seed(1)
    return as_regions(torch.randn(images, 15, rows, cols, dtype=torch.float64))


def torch_layer(layer: nn.Module, x: Tensor, places: Tensor, forbidden: Tensor | None = None) -> Tensor:
    """A layer computed by torch's `MultiheadAttention`."""
    weights = dict(layer.named_parameters())
    attention = nn.MultiheadAttention(12, 3, batch_first=True).double().eval()
    attention.in_proj_weight.data = torch.cat([weights[f"{name}.weight"] for name in ("query", "key", "value")])
    attention.in_proj_bias.data = torch.cat([weights[f"{name}.bias"] for name in ("query", "key", "value")])
    attention.out_proj.load_state_dict({name: weights[f"output.{name}"] for name in ("weight", "bias")})
    normed = nn.functional.layer_norm(x, (12,), weights["norms.0.weight"], weights["norms.0.bias"])
    output = attention(normed + places, normed + places, normed, key_padding_mask=forbidden)[0]
    x = x + (output if forbidden is None else output.masked_fill(forbidden[..., None], 0))
    normed = nn.functional.layer_norm(x, (12,), weights["norms.1.weight"], weights["norms.1.bias"])
    hidden = (normed @ weights["feed_forward.0.weight"].T + weights["feed_forward.0.bias"]).relu()
    return x + hidden @ weights["feed_forward.3.weight"].T + weights["feed_forward.3.bias"]


@pytest.mark.parametrize("masked", [False, True])
def test_it_is_torchs_attention_between_norms_and_residuals(masked: bool) -> None:
    model, inputs = encoder(), regions()
    forbidden = torch.rand(2, 15) < 0.4 if masked else None
    x = inputs.features @ model.project.weight.T + model.project.bias
    for layer in model.layers:
        for parameter in layer.parameters():
            parameter.data.normal_(0, 0.5)
        x = torch_layer(layer, x, position_encoding(inputs.cells, 12).double(), forbidden)
    expected = nn.functional.layer_norm(x, (12,), model.norm.weight, model.norm.bias)
    outputs = model.refine(inputs if forbidden is None else inputs._replace(mask=~forbidden))
    torch.testing.assert_close(outputs.features, expected, atol=1e-10, rtol=1e-8)


def test_regions_that_move_with_their_cells_keep_their_results() -> None:
    model, inputs = encoder(), regions()
    order = torch.randperm(15)
    mask = torch.rand(2, 15) < 0.7
    here = model.refine(inputs._replace(mask=mask))
    there = model.refine(Regions(inputs.features[:, order], inputs.cells[order], mask[:, order]))
    torch.testing.assert_close(there.features, here.features[:, order])
    assert torch.equal(there.cells, inputs.cells[order])


def test_regions_that_move_without_their_cells_do_not() -> None:
    model, inputs = encoder(), regions()
    order = torch.randperm(15)
    moved = model.refine(inputs._replace(features=inputs.features[:, order]))
    assert not torch.allclose(moved.features, model.refine(inputs).features[:, order], atol=1e-3)


def test_a_forbidden_region_takes_no_part() -> None:
    model, inputs = encoder(), regions()
    mask = torch.ones(2, 15, dtype=torch.bool)
    mask[0, 4] = mask[1, 11] = False
    before = model.refine(inputs._replace(mask=mask))
    changed = inputs.features.clone()
    changed[0, 4], changed[1, 11] = 9.0, -9.0
    after = model.refine(inputs._replace(features=changed, mask=mask))
    assert torch.equal(before.features[mask], after.features[mask])
    assert torch.equal(after.mask, mask)
    changed = inputs.features.clone()
    changed[0, :4], changed[1, :4] = 9.0, -9.0
    after = model.refine(inputs._replace(features=changed, mask=mask))
    assert torch.equal(before.features[~mask], after.features[~mask])


def test_a_region_depends_on_the_whole_image() -> None:
    model = encoder()
    images = torch.randn(1, 3, 12, 20, dtype=torch.float64, requires_grad=True)
    model(images).features[0, 0, 0].backward()
    assert images.grad is not None
    assert bool((images.grad.abs().sum((0, 1)) > 0).all())
    assert model.receptive_field is None


def test_places_differ_within_a_grid_and_agree_between_grids() -> None:
    waves = position_encoding(grid_cells(5, 7), 16)
    assert torch.cdist(waves, waves).add(torch.eye(35)).amin() > 0.1
    coarse, fine = position_encoding(grid_cells(1, 1), 16), position_encoding(grid_cells(3, 5), 16)
    torch.testing.assert_close(coarse[0], fine[7])  # the centre is the centre
    row, col = waves.view(5, 7, 2, 8).unbind(2)
    assert torch.equal(row[:, :1].expand_as(row), row)
    assert torch.equal(col[:1].expand_as(col), col)


def test_dropout_acts_in_training_only() -> None:
    model, inputs = encoder(dropout=0.5), regions()
    assert torch.equal(model.refine(inputs).features, model.refine(inputs).features)
    model.train()
    assert not torch.equal(model.refine(inputs).features, model.refine(inputs).features)


def test_over_a_frozen_trunk_only_the_layers_are_trained_and_its_regions_can_be_stored() -> None:
    torch.manual_seed(0)
    model = SelfAttention(Trunk("resnet18", 512, None), features=8, layers=1, heads=2).train()
    assert model.backbone.frozen
    assert not model.frozen
    images = torch.randn(2, 3, 64, 96)
    stored = model.backbone(images)
    model.eval()
    torch.testing.assert_close(model.refine(stored).features, model(images).features)
    model.train()(images).features.square().sum().backward()
    assert {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None} == {
        "project",
        "layers",
        "norm",
    }
    assert model.stages == model.trunk.stages
    assert {id(one) for one in model.unfreeze("layer4")} == {id(one) for one in model.trunk.trunk.layer4.parameters()}  # type: ignore[union-attr, operator]
    assert not model.backbone.frozen


def test_over_another_self_attention_it_is_one_after_the_other() -> None:
    inner, images = encoder(), torch.randn(2, 3, 12, 20, dtype=torch.float64)
    outer = SelfAttention(inner, features=8, layers=1, heads=2, dropout=0.0).double().eval()
    assert outer.backbone is inner.trunk
    alone = outer.project(inner(images).features)
    alone = outer.norm(outer.layers[0](alone, position_encoding(grid_cells(6, 10), 8).double(), None))
    torch.testing.assert_close(outer(images).features, alone)
    assert not outer.stages


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"features": 0}, "features"),
        ({"features": 10, "heads": 2}, "features"),
        ({"heads": 5}, "heads"),
        ({"heads": 0}, "heads"),
        ({"layers": 0}, "layers"),
        ({"hidden": 0}, "hidden"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_values_are_refused_with_a_name(changes: dict, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        encoder(**changes)


def test_a_mask_that_forbids_all_regions_is_refused() -> None:
    mask = torch.ones(2, 15, dtype=torch.bool)
    mask[1] = False
    with pytest.raises(ValueError, match="mask"):
        encoder().refine(regions()._replace(mask=mask))
