import torch
from decoder_cases import grid
from kinds import decoder

from captioner.records import Regions


def torch_cell(size, weights, bias):
    """torch's LSTM cell from rows in our order (input, forget, output, candidate)."""
    input_rows, forget_rows, output_rows, candidate_rows = weights.chunk(4)
    cell = torch.nn.LSTMCell(weights.shape[1] - size, size).double()
    rows = torch.cat([input_rows, forget_rows, candidate_rows, output_rows])
    cell.weight_hh.data, cell.weight_ih.data = rows[:, :size].clone(), rows[:, size:].clone()
    i, f, o, g = bias.chunk(4)
    cell.bias_ih.data, cell.bias_hh.data = torch.cat([i, f, g, o]).clone(), torch.zeros_like(bias)
    return cell


def test_two_steps_are_those_of_two_of_torchs_lstms():
    torch.manual_seed(1)
    model = decoder("top_down").double().eval()
    regions = grid(images=2, masked=True)
    memory, state = model.start(regions)
    attention_lstm = torch_cell(
        6,
        torch.cat([model.looking_gates.weight, model.mean_gates.weight, model.word_gates.weight], 1).detach(),
        model.word_gates.bias.detach(),
    )
    language_lstm = torch_cell(6, model.speaking_gates.weight.detach(), model.speaking_gates.bias.detach())
    means = torch.stack([row[allowed].mean(0) for row, allowed in zip(regions.features, regions.mask, strict=True)])
    h1 = c1 = h2 = c2 = torch.zeros(2, 6).double()
    history = state.history
    for word in (4, 5):
        words = torch.full((2, 1), word)
        step = model.step(memory, state, words)
        h1, c1 = attention_lstm(torch.cat([h2, means, model.embedding(words[:, 0])], 1), (h1, c1))
        glimpse = model.attention(h1[:, None], memory.regions, history)
        h2, c2 = language_lstm(torch.cat([h1, glimpse.context[:, 0]], 1), (h2, c2))
        history = model.attention.update_history(history, glimpse)
        assert torch.allclose(step.log_probs[:, 0], model.output(h2).log_softmax(-1), atol=1e-12)
        state = step.state


def test_the_mean_region_has_a_part_in_the_gates():
    torch.manual_seed(2)
    model = decoder("top_down").double().eval()
    regions = grid(images=1)
    memory, state = model.start(regions)
    brighter, _ = model.start(Regions(regions.features + 1, regions.cells))
    words = torch.ones(1, 1, dtype=torch.long)
    other = memory._replace(mean_gates=brighter.mean_gates)
    assert not torch.allclose(model.step(memory, state, words).log_probs, model.step(other, state, words).log_probs)
