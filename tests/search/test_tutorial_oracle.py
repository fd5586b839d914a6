"""The batched search and decoder compared with the search of tutorials (docs/tools/): one image at a time, another LSTM."""

import pytest
import torch
from kinds import lstm
from tutorial_search import TutorialDecoder, caption_image

from captioner.records import Regions
from captioner.search.beam import BeamSearch

START, END = 1, 2
EXCLUDED = [0, START, 3]
IMAGES, REGIONS = 3, 10


def sharp_decoder(seed, end_bias):
    """Random weights large enough that no two captions tie, that looking matters, and that captions end at several lengths."""
    torch.manual_seed(seed)
    decoder = lstm(vocabulary_size=23, query="previous", gate="scalar").eval()
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.normal_(std=0.7)
        decoder.output.weight.mul_(2)
        decoder.output.bias[END] += end_bias
    return decoder


def both_results(decoder, beams, max_length):
    cells = torch.cartesian_prod(torch.arange(2.0), torch.arange(5.0))
    features = torch.randn(IMAGES, REGIONS, 7)
    memory, state = decoder.start(Regions(features, cells))
    search = BeamSearch(beams, max_length, "none")
    result = search(lambda state, words: decoder.step(memory, state, words), state, IMAGES, START, END, EXCLUDED)
    tutorial = TutorialDecoder(decoder)
    return result, [caption_image(tutorial, regions, beams, max_length, START, END, EXCLUDED) for regions in features]


@pytest.mark.parametrize("beams", [1, 3, 5])
def test_the_same_captions_as_the_tutorials_search(beams):
    lengths = set()
    for seed, end_bias in enumerate((-4.0, 0.0, 2.0, 4.0, 6.0, 8.0)):
        result, expected = both_results(sharp_decoder(seed, end_bias), beams, max_length=7)
        for i, captions in enumerate(expected):
            assert len(captions) == beams
            for rank, caption in enumerate(captions):
                length = len(caption.words)
                assert result.words[i, rank, : result.lengths[i, rank]].tolist() == caption.words
                assert result.log_prob[i, rank].item() == pytest.approx(caption.log_prob, abs=1e-4)
                if length:
                    torch.testing.assert_close(result.record.alphas[i, rank, :length], caption.alphas[:length], atol=1e-4, rtol=0)
                lengths.add(length)
    assert len(lengths) > 2, "captions of one length: this shows nothing of how a search ends"
