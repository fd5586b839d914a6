"""`captioner cache`: the regions of a data set's images, computed once and kept where training looks for them."""

from collections.abc import Sequence

from captioner.cli import train
from captioner.cli.help import texts
from captioner.errors import InputError
from captioner.processor import set_threads

ABOUT = """Computes what a frozen encoder makes of every image and keeps it on disk as half floats, with a fingerprint of images, encoder, \
weights and transform. It takes the same words as `captioner train`. Training with the same words and data.cache_features=true \
finds the regions there and computes nothing. What is kept already is not computed again."""
EXAMPLES = [
    ("captioner cache experiment=coco data.root=/data/coco callbacks.fine_tune.epoch=null", "COCO, for a trunk that stays frozen"),
    (
        "captioner cache experiment=flickr8k data.train.annotations=captions_train.json data.train.images=train "
        "data.val.annotations=captions_val.json data.val.images=val",
        "files in COCO captions format",
    ),
    ("captioner cache data=folder data.root=photos encoder=mobilenet_v2 data.cache_folder=/scratch/features", "your own photos"),
]


def main(arguments: Sequence[str]) -> int:
    """Raises: InputError, one line for the user."""
    words = list(arguments)
    if not words or any(word in ("-h", "--help") for word in words):
        print(usage())
        return 0 if words else 2
    options = [word for word in words if word.startswith("-")]
    if options:
        raise InputError(f"{options[0]}: there is no such option; there is --help, all else is KEY=VALUE or GROUP=CHOICE")
    train.set_up_logging()
    composed, resume = train.configure([*words, "data.cache_features=true"])
    if resume is not None:
        raise InputError("resume= goes on with a run, which has its regions already; give the words that began it")
    import torch

    from captioner.training.configuration import plain
    from captioner.training.image_checks import check_images
    from captioner.training.initial_model import make_captioner
    from captioner.training.run import clear_errors
    from captioner.training.run_parts import build_parts
    from captioner.training.splits import cached_features, read_splits

    with clear_errors():
        parts = build_parts(plain(composed))
        set_threads(parts.threads)
        with parts.source.in_use():
            torch.manual_seed(parts.seed)  # as training does, for an encoder without weights
            splits = read_splits(parts)
            captioner = make_captioner(parts, splits["train"], None)
            check_images(captioner, parts.model["encoder"], parts.init)
            stores = cached_features(parts, splits, captioner)
    for split, store in stores.items():
        size = sum(file.stat().st_size for file in store.folder.iterdir()) / 2**20
        views = ", each also mirrored" if store.views == 2 else ""
        each = f"{len(store.cells)} regions x {store.features} features"
        print(f"{split}: {len(store):,} images{views}, {each}, {size:,.1f} MiB in {store.folder}")
    return 0


def usage() -> str:
    return texts("usage: captioner cache KEY=VALUE ... GROUP=CHOICE ...", ABOUT, EXAMPLES)
