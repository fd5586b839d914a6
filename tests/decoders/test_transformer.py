import pytest
import torch
from decoder_cases import grid, some_captions
from kinds import attention, decoder

from captioner.decoders.parallel import positions
from captioner.records import AttentionMode


@pytest.mark.parametrize("heads", [1, 2])
def test_the_layers_are_those_of_torchs_transformer(heads):
    """With scaled products, and values and keys of the hidden size, each layer is torch's with norms first."""
    torch.manual_seed(1)
    config = attention(score="scaled_dot", context_size=6)
    config["score"] = {**config["score"], "attention_size": 6, "heads": heads}
    model = decoder("transformer", attention=config, heads=heads).double().eval()
    theirs = torch.nn.TransformerDecoderLayer(6, heads, 5, norm_first=True, batch_first=True)
    theirs = torch.nn.TransformerDecoder(theirs, 2, norm=torch.nn.LayerNorm(6)).double().eval()
    regions = grid(images=2, features=7)
    features = regions.features
    for layer, other in zip(model.layers, theirs.layers, strict=True):
        other.self_attn.in_proj_weight.data, other.self_attn.in_proj_bias.data = layer.ask.weight.data, layer.ask.bias.data
        other.self_attn.out_proj.load_state_dict(layer.join.state_dict())
        score, cross_attention = layer.attention.score, layer.attention
        query, cross = score.query, other.multihead_attn
        eye, none = torch.eye(6).double(), torch.zeros(6).double()
        cross.in_proj_weight.data = torch.cat([query.weight.data, eye, eye])
        cross.in_proj_bias.data = torch.cat([query.bias.data, none, none])
        joined = layer.see if heads == 1 else torch.nn.Sequential(cross_attention.output, layer.see)
        cross.out_proj.bias.data = joined(none).detach()
        cross.out_proj.weight.data = (joined(eye) - joined(none)).detach().T.contiguous()
        other.linear1.load_state_dict(layer.feed[0].state_dict())
        other.linear2.load_state_dict(layer.feed[3].state_dict())
        for mine, its in zip((layer.norm_words, layer.norm_look, layer.norm_feed), (other.norm1, other.norm2, other.norm3), strict=True):
            mine.weight.data.uniform_(0.5, 1.5)
            its.load_state_dict(mine.state_dict())
    words = torch.tensor([[1, 4, 5, 6], [1, 9, 4, 7]])
    inputs = model.project(model.embedding(words) * 2 + positions(torch.arange(4), 4, torch.float64))
    causal = torch.nn.Transformer.generate_square_subsequent_mask(4).double()
    outputs = inputs
    for layer, other in zip(model.layers, theirs.layers, strict=True):
        # torch reads keys and values from one memory: keys and values are made beforehand, and handed over one at a time
        keys, values = layer.attention.score.keys(features), layer.attention.value(features)
        outputs = outputs + other._sa_block(other.norm1(outputs), causal, None)
        outputs = outputs + other.multihead_attn(other.norm2(outputs), keys, values, need_weights=False)[0]
        outputs = outputs + other._ff_block(other.norm3(outputs))
    expected = model.output(theirs.norm(outputs)).log_softmax(-1)
    captions = torch.nn.functional.pad(words, (0, 1), value=2)[:, None]
    rollout = model.rollout(regions, captions, torch.full((2, 1), AttentionMode.EXPECTATION))
    assert torch.allclose(rollout.log_probs[:, 0], expected.gather(-1, captions[:, 0, 1:, None])[..., 0], atol=1e-10)


@pytest.mark.parametrize("kind", ["transformer", "convolutional"])
def test_every_layer_has_an_attention_of_its_own_and_its_heads_are_kept(kind):
    torch.manual_seed(2)
    config = attention(score="scaled_dot", context_size=4)
    config["score"] = {**config["score"], "attention_size": 4, "heads": 2}
    model = decoder(kind, attention=config, layers=3).double().eval()
    weights = [layer.attention.score.key.weight for layer in model.layers]
    assert not any(torch.equal(one, other) for i, one in enumerate(weights) for other in weights[:i])
    rollout = model.rollout(grid(), some_captions(), torch.full((3, 4), AttentionMode.EXPECTATION))
    assert rollout.record.head_alphas.shape == (3, 4, 6, 6, 8)
    assert torch.allclose(rollout.record.head_alphas.mean(3), rollout.record.alphas, atol=1e-12)


@pytest.mark.parametrize("kind", ["transformer", "convolutional"])
def test_the_probability_of_draws_is_that_of_all_layers_draws(kind):
    torch.manual_seed(3)
    model = decoder(kind, readout="sample", dropout=0.0).double().train()
    drawn = []
    for layer in model.layers:
        layer.attention.readout.register_forward_hook(
            lambda _, inputs, outputs: drawn.append(inputs[0][outputs[0] == 1].view(3, 4, -1).log())
        )
    captions = torch.full((3, 4, 5), 4)
    rollout = model.rollout(grid(), captions, torch.full((3, 4), AttentionMode.SAMPLE))
    assert torch.allclose(rollout.record.log_prob, sum(drawn), atol=1e-12)


def test_positions_are_of_any_length_and_no_two_alike():
    vectors = positions(torch.arange(200), 9, torch.float64)
    assert vectors.shape == (200, 9)
    apart = torch.cdist(vectors, vectors) + torch.eye(200)
    assert apart.min() > 0.1
    assert vectors[3, 0] == torch.tensor(3.0).double().sin()
    assert vectors[3, 5] == torch.tensor(3.0).double().cos()
