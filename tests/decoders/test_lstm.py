import pytest
import torch
from decoder_cases import grid, some_captions
from kinds import decoder as kinds_decoder
from kinds import lstm

from captioner.records import AttentionMode


def test_the_recurrence_is_torchs_lstm():
    torch.manual_seed(11)
    decoder = lstm().double()
    theirs = torch.nn.LSTMCell(4 + 7, 6).double()
    input_rows, forget_rows, output_rows, candidate_rows = (block.clone() for block in decoder.state_gates.weight.detach().chunk(4))
    rows = [input_rows, forget_rows, candidate_rows, output_rows]  # in torch's order
    words = decoder.word_gates.weight.detach().chunk(4)
    theirs.weight_hh.data = torch.cat([row[:, :6] for row in rows])
    theirs.weight_ih.data = torch.cat([torch.cat([words[i], rows[j][:, 6:]], 1) for j, i in enumerate((0, 1, 3, 2))])
    bias = decoder.word_gates.bias.detach().chunk(4)
    theirs.bias_ih.data, theirs.bias_hh.data = torch.cat([bias[i] for i in (0, 1, 3, 2)]), torch.zeros(24).double()
    word, context, hidden, cell = (torch.randn(5, size).double() for size in (4, 7, 6, 6))
    mine = decoder.next_state(decoder.word_gates(word), hidden, cell, context)
    for one, other in zip(mine, theirs(torch.cat([word, context], 1), (hidden, cell)), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_draws_of_a_rollout_have_the_probability_it_reports():
    torch.manual_seed(1)
    decoder = lstm(readout="sample", dropout=0.0).double().train()
    regions, captions = grid(), some_captions()
    rollout = decoder.rollout(regions, captions, torch.full((3, 4), AttentionMode.SAMPLE))
    drawn = rollout.record.log_prob[rollout.mask].exp()
    alphas = rollout.record.alphas[rollout.mask]
    assert ((alphas - drawn[:, None]).abs().amin(-1) < 1e-12).all()
    assert (rollout.record.log_prob[~rollout.mask] == 0).all()


def test_logits_computed_in_pieces_are_the_same_and_so_are_their_gradients(monkeypatch):
    torch.manual_seed(2)
    decoder = lstm().double().eval()
    regions, captions = grid(), some_captions()
    mode = torch.full((3, 4), AttentionMode.EXPECTATION)
    results = []
    for at_once in (2**25, 11 * 3):
        monkeypatch.setattr("captioner.decoders.decoder.LOGITS_AT_ONCE", at_once)
        decoder.zero_grad()
        rollout = decoder.rollout(regions, captions, mode)
        (rollout.log_probs.sum() + rollout.mean_log_probs.sum()).backward()
        results.append((rollout.log_probs.detach(), decoder.output.weight.grad.clone(), decoder.initial.weight.grad.clone()))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_a_closed_gate_hides_the_context():
    torch.manual_seed(6)
    decoder = lstm(gate="scalar").double().eval()
    regions, captions = grid(), some_captions()
    decoder.beta.weight.data.zero_()
    decoder.beta.bias.data.fill_(-1e9)
    closed = decoder.rollout(regions, captions, torch.full((3, 4), AttentionMode.EXPECTATION))
    decoder.context_output.weight.data.mul_(100)
    again = decoder.rollout(regions, captions, torch.full((3, 4), AttentionMode.EXPECTATION))
    assert torch.allclose(closed.log_probs, again.log_probs, atol=1e-12)
    assert (closed.record.gate == 0).all()


def test_the_sentinel_is_lus():
    torch.manual_seed(7)
    decoder = lstm(query="current", gate="none", sentinel_size=6, dropout=0.0).double().eval()
    memory, state = decoder.start(grid(images=1))
    word = torch.tensor([[4]])
    sentinels = []
    decoder.attention.sentinel.register_forward_pre_hook(lambda _, inputs: sentinels.append(inputs[0]))
    first = decoder.step(memory, state, word)
    decoder.step(memory, first.state, word)
    read = torch.cat([decoder.embedding(word), first.state.hidden, first.state.feed], -1)
    gates = torch.cat([decoder.word_sentinel.weight, decoder.state_sentinel.weight], 1)
    _, cell = decoder.next_state(decoder.word_gates(decoder.embedding(word)), first.state.hidden, first.state.cell, first.state.feed)
    expected = torch.sigmoid(read @ gates.T + decoder.word_sentinel.bias) * torch.tanh(cell)
    assert torch.allclose(sentinels[1], expected, atol=1e-12)


def three_steps(decoder):
    """(state before, step, word) of three steps on one image."""
    memory, state = decoder.start(grid(images=1))
    for word in ([[1]], [[4]], [[7]]):
        step = decoder.step(memory, state, torch.tensor(word))
        yield state, step, torch.tensor(word)
        state = step.state


def test_the_deep_output_of_the_word_itself_is_xu_s_equation_7_with_the_authors_tanh():
    torch.manual_seed(8)
    decoder = lstm(deep_output="embedded", dropout=0.0).double().eval()
    assert not any(name.startswith("word_output") for name, _ in decoder.named_parameters())
    for _, step, word in three_steps(decoder):
        linear = decoder.embedding(word) + step.state.hidden @ decoder.hidden_output.weight.T
        linear = linear + step.state.feed @ decoder.context_output.weight.T
        assert torch.allclose(step.log_probs, decoder.output(torch.tanh(linear)).log_softmax(-1), atol=1e-12)


def test_input_feeding_is_luong_s_attentional_vector():
    torch.manual_seed(8)
    decoder = lstm(query="current", gate="none", deep_output="attentional", feed="output", dropout=0.0).double().eval()
    joining = torch.cat([decoder.context_output.weight, decoder.hidden_output.weight], 1)  # W_c [c; h]
    contexts = []
    decoder.attention.register_forward_hook(lambda *call: contexts.append(call[-1].context))
    for before, step, word in three_steps(decoder):
        hidden, cell = decoder.next_state(decoder.word_gates(decoder.embedding(word)), before.hidden, before.cell, before.feed)
        attentional = torch.tanh(torch.cat([contexts[-1], hidden], -1) @ joining.T)
        assert torch.allclose(step.state.cell, cell, atol=1e-12)
        assert torch.allclose(step.state.feed, attentional, atol=1e-12)
        assert torch.allclose(step.log_probs, decoder.output(attentional).log_softmax(-1), atol=1e-12)
    assert (before.feed != 0).all()


def test_the_adaptive_decoder_is_lu_s():
    """x_t = [w_t; v], s_t of x_t and h_{t-1}, p = softmax(W_p (z + h)), z of regions and sentinel, no gate on either."""
    torch.manual_seed(8)
    decoder = kinds_decoder("lu", sentinel_size=6, dropout=0.0).double().eval()
    memory, first = decoder.start(regions := grid(images=1))
    image = torch.relu(decoder.image(regions.features.mean(1)))
    glimpses, sentinels = [], []
    decoder.attention.register_forward_hook(lambda *call: glimpses.append(call[-1]))
    decoder.attention.sentinel.register_forward_pre_hook(lambda _, inputs: sentinels.append(inputs[0]))
    state = first
    for word in ([[1]], [[4]], [[7]]):
        step = decoder.step(memory, state, torch.tensor(word))
        embedded = decoder.embedding(torch.tensor(word))
        hidden, cell = decoder.next_state(decoder.word_gates(embedded), state.hidden, state.cell, image[:, None])
        word_gate = decoder.word_sentinel(embedded) + decoder.state_sentinel(torch.cat([state.hidden, image[:, None]], -1))
        assert torch.allclose(sentinels[-1], torch.sigmoid(word_gate) * torch.tanh(cell), atol=1e-12)
        both = hidden + glimpses[-1].context @ decoder.context_output.weight.T
        assert torch.allclose(step.log_probs, decoder.output(both).log_softmax(-1), atol=1e-12)
        assert step.record.gate is None
        state = step.state


@pytest.mark.parametrize("changes", [{"feed": "output"}, {"feed": "output", "query": "current"}, {"feed": "image", "query": "word"}])
def test_a_feed_that_does_not_go_with_the_query_or_the_output_is_refused(changes):
    with pytest.raises(ValueError, match=r"feed is .* it needs "):
        lstm(**changes)


def test_models_trained_before_there_were_other_decoders_still_load():
    names = "beta.bias beta.weight context_output.weight embedding.weight hidden_output.weight initial.bias initial.weight output.bias"
    names += " output.weight state_gates.weight word_gates.bias word_gates.weight word_output.bias word_output.weight word_query.weight"
    mine = {name: tuple(tensor.shape) for name, tensor in lstm(query="word").state_dict().items() if not name.startswith("attention.")}
    assert sorted(mine) == names.split()
    assert (mine["initial.weight"], mine["word_gates.weight"], mine["state_gates.weight"]) == ((12, 7), (24, 4), (24, 13))
