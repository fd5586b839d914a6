"""What the tests of attention share: small regions and queries, and one look."""

import torch

from captioner.attention.score import Dot
from captioner.records import AttentionMode, Regions


def randomised(module):
    """In float64, with no parameter left at zero."""
    for parameter in module.double().parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter)
    return module.eval()


def features_of(module):
    """The size of the module's regions: a dot product needs that of the queries."""
    return 6 if isinstance(module.score, Dot) else 7


def case(module, images=3, rows=2, cols=5, masked=True):
    """Regions and queries."""
    torch.manual_seed(0)
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).double()
    mask = torch.rand(images, rows * cols) < 0.5
    mask[:, 4] = True
    features = torch.randn(images, rows * cols, features_of(module)).double()
    return Regions(features, cells, mask if masked else None), torch.randn(images, 2, 6).double()


def some_sentinel(module, queries):
    if module.sentinel_size is None:
        return None
    return torch.randn(*queries.shape[:2], module.sentinel_size, generator=torch.Generator().manual_seed(3)).double()


def past_of(module, regions, queries, mode=AttentionMode.EXPECTATION):
    """The history of queries that have looked twice, where the mask lets them."""
    history = module.initial_history(module.build_memory(regions), queries.shape[1])
    last = torch.rand(history.alphas.shape, generator=torch.Generator().manual_seed(8)).double()
    if regions.mask is not None:
        last = last * regions.mask[:, None]
    last = last / last.sum(-1, keepdim=True)
    return history._replace(alphas=last, cumulative=2 * last, step=history.step + 2, mode=torch.full_like(history.mode, mode))


def attend(module, regions, queries, mode=AttentionMode.EXPECTATION, history=None, sentinel=None):
    history = past_of(module, regions, queries, mode) if history is None else history
    sentinel = some_sentinel(module, queries) if sentinel is None else sentinel
    return module(queries, module.build_memory(regions), history, sentinel)
