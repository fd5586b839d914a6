"""Milliseconds of a training step of a small decoder: OpenMP threads that spin while they wait, or
sleep, on free and on busy cores.

Every row is a process of its own, because OpenMP reads OMP_WAIT_POLICY once, when torch is loaded.
"busy" is the number of other programs that compute without a pause while the row is measured;
"chosen" is the number of threads that `captioner.processor` chooses then. The step is that of the
drawn scenes' recipe: 32 images, 144 regions of 106 features, three captions per image, hidden size
192. Medians.

python benchmarks/threads.py [--steps 30] [--busy 0 1 2]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from captioner import processor

SPIN = "import time\nwhile True:\n    sum(range(100000))"
ROWS = (("usual", "2"), ("PASSIVE", "2"), ("ours", "2"), ("ours", "1"), ("ours", "chosen"))


def measure(threads: str, steps: int) -> None:
    """Print the median milliseconds of a step of this process, and its threads."""
    before = processor.read_cpu_times()
    import torch

    from captioner.attention.attention import Attention
    from captioner.attention.distribution import Softmax
    from captioner.attention.locality import Everywhere
    from captioner.attention.readout import Expectation
    from captioner.attention.score import ScaledDot
    from captioner.decoders.lstm import LSTMDecoder
    from captioner.records import AttentionMode, Regions

    number = processor.free_cores(before) if threads == "chosen" else int(threads)
    torch.set_num_threads(number)
    torch.manual_seed(0)
    attention = Attention(ScaledDot(106, 192, 64), Everywhere(), Softmax(), Expectation(), 106)
    decoder = LSTMDecoder(100, 106, attention, embedding_size=96, hidden_size=192)
    regions = Regions(torch.randn(32, 144, 106), torch.cartesian_prod(torch.arange(12.0), torch.arange(12.0)))
    captions = torch.randint(3, 100, (32, 3, 16))
    captions[..., 0], captions[..., -1] = 1, 2
    optimizer = torch.optim.AdamW(decoder.parameters())
    mode = torch.full((32, 3), AttentionMode.EXPECTATION)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        (-decoder.rollout(regions, captions, mode).log_probs.mean()).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    print(f"{1000 * statistics.median(seconds[steps // 5 :]):.0f} {number}")


def measure_process(policy: str, threads: str, steps: int) -> tuple[str, str]:
    """(milliseconds, threads) of a process with these settings."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    if policy != "usual":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    if policy == "ours":
        environment["GOMP_SPINCOUNT"] = processor.SPIN_COUNT
    command = [sys.executable, __file__, "--one", threads, "--steps", str(steps)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    return output[0], output[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.steps)
        return
    print(f"{os.cpu_count()} cores; load before: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    print(f"{'busy programs':>14}{'OMP_WAIT_POLICY':>18}{'threads':>10}{'ms per step':>12}")
    for busy in options.busy:
        others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(busy)]
        try:
            for policy, threads in ROWS:
                milliseconds, number = measure_process(policy, threads, options.steps)
                print(f"{busy:>14}{policy:>18}{number + ('*' if threads == 'chosen' else ''):>10}{milliseconds:>12}", flush=True)
        finally:
            for other in others:
                other.kill()
                other.wait()
    print("* the number of free cores")


if __name__ == "__main__":
    main()
