import itertools

import pytest
import torch
from kinds import attention, kinds, lstm, part

from captioner import bundle
from captioner.records import DRAW, EXPECT, PEAK, Regions, map_tensors


def grid(images=3, rows=2, cols=4, features=7, dtype=torch.float64, masked=False):
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).to(dtype)
    mask = None
    if masked:
        mask = torch.rand(images, rows * cols) < 0.6
        mask[:, 2] = True
    return Regions(torch.randn(images, rows * cols, features, dtype=dtype), cells, mask).check()


def some_captions(images=3, captions=2, longest=5, vocab=11):
    """Unequal lengths, one image with a caption fewer."""
    words = torch.zeros(images, captions, longest + 2, dtype=torch.long)
    for i, c in itertools.product(range(images), range(captions)):
        length = int(torch.randint(0, longest + 1, ()))
        words[i, c, : length + 2] = torch.tensor([1, *torch.randint(3, vocab, (length,)).tolist(), 2])
    words[1, captions - 1] = 0
    words[0, 0] = torch.tensor([1, *torch.randint(3, vocab, (longest,)).tolist(), 2])
    return words


def stepped(decoder, regions, captions, mode):
    """The oracle: step after step, every caption to the end of the longest, masked afterwards."""
    memory, state = decoder.start(regions)
    state = map_tensors(lambda leaf: leaf.expand(-1, captions.shape[1], *leaf.shape[2:]), state)
    state = state._replace(trail=state.trail._replace(mode=mode))
    steps = []
    for t in range(captions.shape[-1] - 1):
        step = decoder.step(memory, state, captions[..., t])
        state = step.state
        steps.append(step)
    log_probs = torch.stack([s.log_probs.gather(-1, captions[..., t + 1, None])[..., 0] for t, s in enumerate(steps)], -1)
    means = torch.stack([s.log_probs.mean(-1) for s in steps], -1)
    return log_probs, means, torch.stack([s.trace.alphas for s in steps], 2), torch.stack([s.trace.log_prob for s in steps], 2)


CASES = [
    *[{"query": query, "gate": gate} for query in ("previous", "word", "current") for gate in ("none", "scalar", "vector")],
    *[{"score": kind} for kind in kinds("attention/score")],
    *[{"locality": kind, "query": "current"} for kind in kinds("attention/locality")],
    *[{"readout": kind} for kind in kinds("attention/readout")],
    {"context_size": 3, "query": "word"},
    {"tie": True},
]


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rollout_is_step_repeated(case, masked, dtype, close):
    torch.manual_seed(5)
    decoder = lstm(**case).to(dtype).eval()
    regions, captions = grid(dtype=dtype, masked=masked), some_captions()
    mode = torch.randint(0, 3, captions.shape[:2]).masked_fill_(torch.ones(3, 2, dtype=torch.bool), EXPECT)
    mode[2, 0] = PEAK
    rollout = decoder.rollout(regions, captions, mode)
    log_probs, means, alphas, drawn = stepped(decoder, regions, captions, mode)
    mask = captions[..., 1:] != 0
    assert torch.equal(rollout.mask, mask)
    assert torch.allclose(rollout.log_probs, log_probs * mask, atol=close, rtol=0)
    assert torch.allclose(rollout.mean_log_probs, means * mask, atol=close, rtol=0)
    assert torch.allclose(rollout.trace.alphas, alphas * mask[..., None], atol=close, rtol=0)
    assert torch.allclose(rollout.trace.log_prob, drawn * mask, atol=close, rtol=0)
    assert torch.equal(rollout.mode, mode)


def test_draws_of_a_rollout_have_the_probability_it_reports():
    torch.manual_seed(1)
    decoder = lstm(readout="sample", dropout=0.0).double().train()
    regions, captions = grid(), some_captions()
    rollout = decoder.rollout(regions, captions, torch.full((3, 2), DRAW))
    drawn = rollout.trace.log_prob[rollout.mask].exp()
    alphas = rollout.trace.alphas[rollout.mask]
    assert ((alphas - drawn[:, None]).abs().amin(-1) < 1e-12).all()
    assert (rollout.trace.log_prob[~rollout.mask] == 0).all()


def test_logits_made_by_pieces_are_the_same_and_so_are_their_gradients(monkeypatch):
    torch.manual_seed(2)
    decoder = lstm().double().eval()
    regions, captions = grid(), some_captions()
    mode = torch.full((3, 2), EXPECT)
    results = []
    for at_once in (2**25, 11 * 3):
        monkeypatch.setattr("captioner.decoders.decoder.LOGITS_AT_ONCE", at_once)
        decoder.zero_grad()
        rollout = decoder.rollout(regions, captions, mode)
        (rollout.log_probs.sum() + rollout.mean_log_probs.sum()).backward()
        results.append((rollout.log_probs.detach(), decoder.output.weight.grad.clone(), decoder.initial.weight.grad.clone()))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_each_image_is_alone_in_its_batch():
    torch.manual_seed(3)
    decoder = lstm(locality="coverage", query="current").double().eval()
    regions, captions = grid(masked=True), some_captions()
    together = decoder.rollout(regions, captions, torch.full((3, 2), EXPECT))
    for i in range(3):
        if not (captions[i] != 0).any():
            continue
        single = Regions(regions.features[i : i + 1], regions.cells, regions.mask[i : i + 1])
        alone = decoder.rollout(single, captions[i : i + 1], torch.full((1, 2), EXPECT))
        assert torch.allclose(alone.log_probs[0], together.log_probs[i], atol=1e-12)


def test_longer_padding_changes_nothing():
    torch.manual_seed(4)
    decoder = lstm().double().eval()
    regions, captions = grid(), some_captions()
    mode = torch.full((3, 2), EXPECT)
    longer = torch.nn.functional.pad(captions, (0, 3))
    short, long = decoder.rollout(regions, captions, mode), decoder.rollout(regions, longer, mode)
    assert torch.allclose(short.log_probs, long.log_probs[..., :-3], atol=1e-12)
    assert (long.trace.alphas[:, :, -3:] == 0).all()


def test_a_shut_gate_lets_nothing_of_the_context_through():
    torch.manual_seed(6)
    decoder = lstm(gate="scalar").double().eval()
    regions, captions = grid(), some_captions()
    decoder.beta.weight.data.zero_()
    decoder.beta.bias.data.fill_(-1e9)
    shut = decoder.rollout(regions, captions, torch.full((3, 2), EXPECT))
    decoder.context_output.weight.data.mul_(100)
    again = decoder.rollout(regions, captions, torch.full((3, 2), EXPECT))
    assert torch.allclose(shut.log_probs, again.log_probs, atol=1e-12)
    assert (shut.trace.gate == 0).all()


@pytest.mark.parametrize("bad", [{"query": "next"}, {"gate": "open"}, {"dropout": 1.0}, {"embedding_size": 0}])
def test_a_bad_value_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        lstm_with(bad)


def lstm_with(changes):
    config = {**part("decoder", "lstm"), "attention": attention(), "features": 7, "embedding_size": 4, "hidden_size": 6, **changes}
    return bundle.build(config, vocabulary_size=11)
