"""What `init=` takes along from a trained model."""

import torch
from kinds import lstm
from torch import nn

from captioner.data.captions import CaptionSet
from captioner.data.transforms import Transform
from captioner.encoders.small import SmallConv
from captioner.model import Captioner
from captioner.training.initial_model import TransferReport, transfer_weights
from captioner.vocabulary import Vocabulary


def captioner(words: str) -> Captioner:
    encoder = SmallConv(channels=(4, 7), kernels=(6, 3), strides=(4, 2), blocks=(0, 0), coordinates=False)
    vocabulary = Vocabulary(list(words))
    return Captioner(encoder, lstm(len(vocabulary)), vocabulary, Transform(24))


def test_what_is_taken_along_is_all_that_fits_and_the_rest_is_named() -> None:
    captions = CaptionSet("nowhere", ["1.png"], [1], [["a d", "e c"]])
    source, target = captioner("abc"), captioner("abcde")
    new = target.decoder.output.weight[7:].clone()
    report = transfer_weights(source, target, captions)
    assert report == TransferReport(3, ("d", "e"), ("b",), (), ())
    assert report.lines() == ["3 words kept, 2 added (d, e), 1 not in the new captions (b)"]
    theirs = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        assert torch.equal(parameter[: len(theirs[name])], theirs[name]), name
    assert torch.equal(target.decoder.output.weight[7:], new)


def test_tensors_of_another_shape_stay_as_they_were_and_are_named() -> None:
    captions = CaptionSet("nowhere", ["1.png"], [1], [["a b c"]])
    source, target = captioner("abc"), captioner("abc")
    target.decoder.hidden_output = nn.Linear(5, 4, bias=False)
    report = transfer_weights(source, target, captions)
    assert report.dropped_tensors == report.new_tensors == ("decoder.hidden_output.weight",)
    assert "decoder.hidden_output.weight" in report.lines()[1]
