import torch
from kinds import decoder


def test_the_recurrence_is_bahdanaus():
    torch.manual_seed(1)
    model = decoder("gru").double()
    word, hidden, context = (torch.randn(3, size).double() for size in (4, 6, 7))
    new, cell = model.next_state(model.word_gates(word), hidden, None, context)
    assert cell is None
    for row in range(3):
        of_word = model.word_gates.weight @ word[row] + model.word_gates.bias
        u, c = model.state_gates.weight[:, :6], model.state_gates.weight[:, 6:]
        reset = torch.sigmoid(of_word[:6] + u[:6] @ hidden[row] + c[:6] @ context[row])
        update = torch.sigmoid(of_word[6:12] + u[6:12] @ hidden[row] + c[6:12] @ context[row])
        candidate = torch.tanh(of_word[12:] + u[12:] @ (reset * hidden[row]) + c[12:] @ context[row])
        assert torch.allclose(new[row], (1 - update) * hidden[row] + update * candidate, atol=1e-12)
