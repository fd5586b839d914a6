import inspect

import pytest
import torch
from decoder_cases import grid
from kinds import decoder

from captioner.decoders.convolutional import ConvolutionalDecoder, context_scale
from captioner.records import AttentionMode


@pytest.mark.parametrize(("layers", "kernel_size"), [(1, 1), (1, 3), (2, 2), (2, 3)])
def test_a_word_reads_as_many_words_as_layers_and_kernel_say(layers, kernel_size):
    torch.manual_seed(1)
    model = decoder("convolutional", layers=layers, kernel_size=kernel_size).double().eval()
    captions = torch.tensor([[[1, 4, 5, 6, 7, 8, 9, 2], [1, 10, 5, 6, 7, 8, 9, 2]]])  # the word at 1 differs
    one, other = model.rollout(grid(images=1), captions, torch.full((1, 2), AttentionMode.EXPECTATION)).log_probs[0]
    differs = (one - other).abs() > 1e-9
    read = layers * (kernel_size - 1)
    assert differs.tolist() == [step == 0 or 1 <= step <= 1 + read for step in range(7)]


def test_a_layer_is_gehrings():
    torch.manual_seed(2)
    model = decoder("convolutional", layers=1, kernel_size=3, dropout=0.0).double().eval()
    layer, regions = model.layers[0], grid(images=1)
    memory, state = model.start(regions)
    words, inputs = torch.randn(2, 1, 1, 4, 6).double()
    outputs, past, _ = layer(inputs, words, state.past[0], memory[0], repeat_history(state.history, 4))
    padded = torch.cat([torch.zeros(2, 6).double(), inputs[0, 0]])
    assert torch.equal(past[0, 0], padded[-2:])
    for t in range(4):
        window = padded[t : t + 3]
        signal = torch.einsum("kh,ohk->o", window, layer.convolution.weight) + layer.convolution.bias
        signal = signal[:6] * torch.sigmoid(signal[6:])
        query = (layer.ask(signal) + words[0, 0, t]) / 2**0.5
        context = layer.see(layer.attention(query[None, None], memory[0], state.history).context[0, 0] * 8 * (1 / 8) ** 0.5)  # regions
        expected = ((signal + context) / 2**0.5 + inputs[0, 0, t]) / 2**0.5
        assert torch.allclose(outputs[0, 0, t], expected, atol=1e-12)


def test_the_scale_counts_the_regions_that_may_be_looked_at():
    """And old models, which were trained without, are without."""
    torch.manual_seed(2)
    model = decoder("convolutional").double().eval()
    regions = grid(masked=True)
    memory, _ = model.start(regions)
    assert context_scale(memory[0]).flatten().tolist() == pytest.approx([int(row.sum()) ** 0.5 for row in regions.mask])
    assert [layer.scale_context for layer in model.layers] == [True, True]
    assert not any(layer.scale_context for layer in decoder("convolutional", scale_context=False).layers)
    assert inspect.signature(ConvolutionalDecoder).parameters["scale_context"].default is False


def test_dropout_acts_on_what_a_layer_reads_and_not_on_what_passes_it_by():
    torch.manual_seed(3)
    model = decoder("convolutional", dropout=0.5).double().train()
    layer, regions = model.layers[0], grid(images=1)
    memory, state = model.start(regions)
    words, inputs = torch.randn(2, 1, 1, 4, 6).double()
    _, past, _ = layer(inputs, words, state.past[0], memory[0], repeat_history(state.history, 4))
    dropped = past[0, 0] == 0
    assert 0 < dropped.sum() < dropped.numel()
    assert torch.allclose(past[0, 0][~dropped], 2 * inputs[0, 0, -2:][~dropped])


def repeat_history(history, steps):
    return history._replace(
        alphas=history.alphas.expand(-1, steps, -1),
        cumulative=history.cumulative.expand(-1, steps, -1),
        mode=history.mode.expand(-1, steps),
    )
