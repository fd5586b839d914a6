import math

import pytest
import torch
from attention_cases import attend, case, past_of, randomised
from kinds import attention, kinds, part

from captioner.build import build
from captioner.records import AttentionHistory


def locality(kind, **changes):
    return build(part("attention/locality", kind, **changes)).double()


def grid(rows, cols):
    return torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).double()


def history_of(alphas):
    step = torch.ones(alphas.shape[:2], dtype=torch.long)
    return AttentionHistory(alphas, alphas, step, step)


@pytest.mark.parametrize("kind", kinds("attention/locality"))
def test_a_locality_that_needs_no_history_reads_none(kind):
    torch.manual_seed(0)
    module = randomised(locality(kind))
    queries, cells = torch.randn(3, 2, 6).double(), grid(2, 5)
    histories = [history_of(torch.rand(3, 2, 10).double()) for _ in range(6)]
    same = [torch.equal(module(queries, cells, histories[0]), module(queries, cells, history)) for history in histories[1:]]
    assert all(same) != module.needs_history


def test_the_gaussian_window_is_its_formula():
    torch.manual_seed(1)
    module = locality("gaussian_window", sigma=1.5)
    queries, cells = 3 * torch.randn(2, 3, 6).double(), grid(3, 5)
    got = module(queries, cells, history_of(torch.zeros(2, 3, 15).double()))
    for i in range(2):
        for q in range(3):
            row, col = module.point(queries[i, q]) * torch.tensor([2.0, 4.0])
            for r, (y, x) in enumerate(cells.tolist()):
                assert got[i, q, r].item() == pytest.approx(-((y - row) ** 2 + (x - col) ** 2).item() / (2 * 1.5**2))


def test_the_prior_is_one_surface_whatever_the_grid():
    torch.manual_seed(2)
    module = randomised(locality("prior", waves=3))
    queries = torch.randn(2, 3, 6).double()
    for rows, cols in ((2, 5), (3, 4), (1, 1)):
        got = module(queries, grid(rows, cols), history_of(torch.zeros(2, 3, rows * cols).double()))
        for r, (y, x) in enumerate(grid(rows, cols).tolist()):
            expected = sum(
                module.weights[u, v].item() * math.cos(math.pi * u * (y + 0.5) / rows) * math.cos(math.pi * v * (x + 0.5) / cols)
                for u in range(3)
                for v in range(3)
            )
            assert torch.allclose(got[..., r], torch.full((2, 3), expected).double())


def test_the_prior_can_take_any_side_of_the_image():
    """Learned by descent: whichever quarter is asked for gets the weight."""
    torch.manual_seed(3)
    cells = grid(4, 6)
    target = (cells[:, 0] < 2) & (cells[:, 1] >= 3)
    module = locality("prior")
    descent = torch.optim.Adam(module.parameters(), 0.5)
    for _ in range(30):
        mass = module(torch.zeros(1, 1, 6).double(), cells, history_of(torch.zeros(1, 1, 24).double())).softmax(-1)[..., target].sum()
        descent.zero_grad()
        (-mass.log()).backward()
        descent.step()
    assert mass > 0.9


def test_the_monotonic_window_is_its_formula():
    module = locality("monotonic_window", reach=2)
    cells = grid(4, 5)
    alphas = torch.rand(2, 3, 20).double()
    alphas[0, 0, 1 * 5 + 3] = 2.0
    alphas[1, 2] = 0.0
    got = module(torch.zeros(2, 3, 6).double(), cells, history_of(alphas))
    for r, (y, x) in enumerate(cells.tolist()):
        inside = 1 <= y <= 3 and 1 <= x <= 5
        assert got[0, 0, r] == (0.0 if inside else -torch.inf)
    assert (got[1, 2] == 0).all()


def test_the_monotonic_window_never_climbs_and_always_leaves_something():
    """Whatever the mask and the queries: no look is refused, and the row of the highest alpha never falls."""
    torch.manual_seed(4)
    module = build(attention(locality="monotonic_window", distribution="sparsemax")).double()
    regions, _ = case(module, 5, 6, 4)
    regions = regions._replace(mask=torch.rand(5, 24) < 0.2)
    regions.mask[:, 17] = True
    memory = module.build_memory(regions)
    history, row, moved = module.initial_history(memory, 7), torch.zeros(5, 7).double(), 0
    for _ in range(8):
        glimpse = module(20 * torch.randn(5, 7, 6).double(), memory, history)
        history = module.update_history(history, glimpse)
        now = regions.cells[glimpse.alphas.argmax(-1)][..., 0]
        assert (now >= row).all()
        assert torch.allclose(glimpse.alphas.sum(-1), torch.ones(5, 7).double())
        moved, row = moved + int((now > row).sum()), now
    assert moved


def test_coverage_draws_to_the_last_look_or_away_from_all():
    torch.manual_seed(5)
    module = build(attention(locality="coverage")).double()
    regions, queries = case(module, masked=False)
    module.locality.weigh.weight.data.zero_()
    plain = build(attention()).double()
    plain.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("locality")})
    base, past = attend(plain, regions, queries).alphas, past_of(plain, regions, queries).alphas
    module.locality.weigh.bias.data.copy_(torch.tensor([5.0, 0.0]))
    assert (((attend(module, regions, queries).alphas - base) * past).sum(-1) > 0).all()
    module.locality.weigh.bias.data.copy_(torch.tensor([0.0, -5.0]))
    assert (((attend(module, regions, queries).alphas - base) * past).sum(-1) < 0).all()


def test_coverage_starts_from_the_weights_it_is_given():
    module = locality("coverage", stay=2.0, leave=3.0)
    module.weigh.weight.data.zero_()
    alphas = torch.rand(2, 3, 10).double()
    got = module(torch.randn(2, 3, 6).double(), grid(2, 5), history_of(alphas)._replace(cumulative=4 * alphas))
    assert torch.allclose(got, 2 * alphas - 3 * 4 * alphas)


@pytest.mark.parametrize(
    ("kind", "bad"), [("gaussian_window", {"sigma": 0.0}), ("monotonic_window", {"reach": 0.5}), ("prior", {"waves": 0})]
)
def test_a_bad_length_is_refused_by_name(kind, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        locality(kind, **bad)
