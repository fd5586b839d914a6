"""What glibc's allocator costs a trunk and a step of the decoder: by default, and as our commands arrange it.

    python benchmarks/allocator.py [--repeats 7] [--name mobilenet_v2]

Each figure is the median processor time of one thread, in a process of its own, one after the other; the ratio is of default to ours.
"""

import argparse
import statistics
import subprocess
import sys

PROGRAM = """
import sys, time
keep, what, repeats = sys.argv[1] == "ours", sys.argv[2], int(sys.argv[3])
from captioner import processor
if keep:
    assert processor.keep_freed_memory()
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
if what == "decoder":
    from captioner.attention.attention import Attention
    from captioner.attention.distribution import Softmax
    from captioner.attention.locality import Everywhere
    from captioner.attention.readout import Expectation
    from captioner.attention.score import Additive
    from captioner.decoders.lstm import LSTMDecoder
    from captioner.encoders.encoder import grid_cells
    from captioner.records import Regions
    attention = Attention(Additive(512, 512, 512), Everywhere(), Softmax(), Expectation(), 512)
    model = LSTMDecoder(2500, 512, attention, 512, 512)
    regions = Regions(torch.randn(32, 49, 512), grid_cells(7, 7))
    captions, mode = torch.randint(4, 2500, (32, 2, 14)), torch.ones(32, 2, dtype=torch.long)
    def run():
        model.rollout(regions, captions, mode).log_probs.sum().backward()
else:
    import torchvision
    trunk = torchvision.models.get_model(what, weights=None).eval()
    images = torch.randn(16, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    trunk.to(memory_format=torch.channels_last)
    def run():
        with torch.inference_mode():
            trunk(images)
run()
seconds = []
for _ in range(repeats):
    began = time.process_time()
    run()
    seconds.append(time.process_time() - began)
print(sorted(seconds)[repeats // 2])
"""


def seconds(arrangement: str, what: str, repeats: int) -> float:
    words = [sys.executable, "-c", PROGRAM, arrangement, what, str(repeats)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--name", nargs="*", default=["mobilenet_v2", "resnet50"], help="trunks of torchvision")
    options = parser.parse_args()
    print(f"{'':14s} {'default':>9s} {'ours':>9s}  ratio")
    for what in [*options.name, "decoder"]:
        runs = {kind: statistics.median(seconds(kind, what, options.repeats) for _ in range(3)) for kind in ("default", "ours")}
        print(
            f"{what:14s} {1000 * runs['default']:6.0f} ms {1000 * runs['ours']:6.0f} ms  {runs['default'] / runs['ours']:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
