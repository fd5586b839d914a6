import pytest
import torch

from captioner.attention import score
from captioner.attention.score import Additive


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_the_additive_score_in_pieces_is_the_formula(heads, dtype, error, monkeypatch):
    monkeypatch.setattr(score, "UNITS_AT_ONCE", 2 * 3 * 5 * 6)  # two of the seven images at once
    torch.manual_seed(0)
    additive = Additive(features=4, hidden_size=2, attention_size=6, heads=heads).to(dtype)
    queries, features = torch.randn(7, 3, 2, dtype=dtype), torch.randn(7, 5, 4, dtype=dtype)
    layer = torch.tanh(additive.key(features)[:, None] + (queries @ additive.query.weight.T)[:, :, None]) * additive.energy.weight[0]
    formula = layer.unflatten(-1, (heads, -1)).sum(-1).movedim(-1, 2)
    scores = additive(queries, additive.keys(features))
    torch.testing.assert_close(scores, formula, atol=error, rtol=0)
    weights, parameters = torch.randn_like(scores), list(additive.parameters())
    for got, expected in zip(*(torch.autograd.grad((s * weights).sum(), parameters) for s in (scores, formula)), strict=True):
        torch.testing.assert_close(got, expected, atol=20 * error, rtol=0)
