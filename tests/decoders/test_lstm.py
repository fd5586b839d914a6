import torch
from kinds import lstm
from rolling import grid, some_captions

from captioner.records import DRAW, EXPECT


def test_the_recurrence_is_torchs_lstm():
    torch.manual_seed(11)
    decoder = lstm().double()
    theirs = torch.nn.LSTMCell(4 + 7, 6).double()
    write, forget, read, new = (block.clone() for block in decoder.state_gates.weight.detach().chunk(4))
    rows = [write, forget, new, read]  # in torch's order
    words = decoder.word_gates.weight.detach().chunk(4)
    theirs.weight_hh.data = torch.cat([row[:, :6] for row in rows])
    theirs.weight_ih.data = torch.cat([torch.cat([words[i], rows[j][:, 6:]], 1) for j, i in enumerate((0, 1, 3, 2))])
    bias = decoder.word_gates.bias.detach().chunk(4)
    theirs.bias_ih.data, theirs.bias_hh.data = torch.cat([bias[i] for i in (0, 1, 3, 2)]), torch.zeros(24).double()
    word, context, hidden, cell = (torch.randn(5, size).double() for size in (4, 7, 6, 6))
    mine = decoder.recur(decoder.word_gates(word), hidden, cell, context)
    for one, other in zip(mine, theirs(torch.cat([word, context], 1), (hidden, cell)), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_draws_of_a_rollout_have_the_probability_it_reports():
    torch.manual_seed(1)
    decoder = lstm(readout="sample", dropout=0.0).double().train()
    regions, captions = grid(), some_captions()
    rollout = decoder.rollout(regions, captions, torch.full((3, 4), DRAW))
    drawn = rollout.trace.log_prob[rollout.mask].exp()
    alphas = rollout.trace.alphas[rollout.mask]
    assert ((alphas - drawn[:, None]).abs().amin(-1) < 1e-12).all()
    assert (rollout.trace.log_prob[~rollout.mask] == 0).all()


def test_logits_made_by_pieces_are_the_same_and_so_are_their_gradients(monkeypatch):
    torch.manual_seed(2)
    decoder = lstm().double().eval()
    regions, captions = grid(), some_captions()
    mode = torch.full((3, 4), EXPECT)
    results = []
    for at_once in (2**25, 11 * 3):
        monkeypatch.setattr("captioner.decoders.decoder.LOGITS_AT_ONCE", at_once)
        decoder.zero_grad()
        rollout = decoder.rollout(regions, captions, mode)
        (rollout.log_probs.sum() + rollout.mean_log_probs.sum()).backward()
        results.append((rollout.log_probs.detach(), decoder.output.weight.grad.clone(), decoder.initial.weight.grad.clone()))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_a_shut_gate_lets_nothing_of_the_context_through():
    torch.manual_seed(6)
    decoder = lstm(gate="scalar").double().eval()
    regions, captions = grid(), some_captions()
    decoder.beta.weight.data.zero_()
    decoder.beta.bias.data.fill_(-1e9)
    shut = decoder.rollout(regions, captions, torch.full((3, 4), EXPECT))
    decoder.context_output.weight.data.mul_(100)
    again = decoder.rollout(regions, captions, torch.full((3, 4), EXPECT))
    assert torch.allclose(shut.log_probs, again.log_probs, atol=1e-12)
    assert (shut.trace.gate == 0).all()


def test_the_sentinel_is_lus():
    torch.manual_seed(7)
    decoder = lstm(query="current", gate="none", sentinel_size=6, dropout=0.0).double().eval()
    memory, state = decoder.start(grid(images=1))
    word = torch.tensor([[4]])
    handed = []
    decoder.attention.sentinel.register_forward_pre_hook(lambda _, given: handed.append(given[0]))
    first = decoder.step(memory, state, word)
    decoder.step(memory, first.state, word)
    read = torch.cat([decoder.embedding(word), first.state.hidden, first.state.context], -1)
    gates = torch.cat([decoder.word_sentinel.weight, decoder.state_sentinel.weight], 1)
    _, cell = decoder.recur(decoder.word_gates(decoder.embedding(word)), first.state.hidden, first.state.cell, first.state.context)
    expected = torch.sigmoid(read @ gates.T + decoder.word_sentinel.bias) * torch.tanh(cell)
    assert torch.allclose(handed[1], expected, atol=1e-12)


def test_models_trained_before_there_were_other_decoders_still_load():
    names = "beta.bias beta.weight context_output.weight embedding.weight hidden_output.weight initial.bias initial.weight output.bias"
    names += " output.weight state_gates.weight word_gates.bias word_gates.weight word_output.bias word_output.weight word_query.weight"
    mine = {name: tuple(tensor.shape) for name, tensor in lstm(query="word").state_dict().items() if not name.startswith("attention.")}
    assert sorted(mine) == names.split()
    assert (mine["initial.weight"], mine["word_gates.weight"], mine["state_gates.weight"]) == ((12, 7), (24, 4), (24, 13))
