"""The pictures of docs/attention_kinds.md and of the README: the same scene and the same caption
for every kind of attention.

python docs/figures.py maps [--only sparsemax,transformer] [--epochs 1] [--parallel 2]
                            [--out outputs/figures]
python docs/figures.py readme [--soft RUN --hard RUN --local RUN --sparse RUN]

`maps` trains the runs that are missing, one short run per kind on the drawn scenes, and draws
docs/maps/NAME.png. Finished runs are kept, and a stopped run goes on from its last epoch, so the
command can be stopped and started again. `readme` draws docs/kinds.png, docs/explanations.png and
docs/alignment.png, from the runs of seed 0 of benchmarks/attention_kinds.py. The caption is the
same for all models, so that maps can be compared.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

DOCS = Path(__file__).resolve().parent
COMPARED = ("soft", "hard", "local", "sparse")
"""Kinds of attention in the README."""
sys.path.insert(0, str(DOCS.parent / "benchmarks"))
from attention_kinds import finished_run, recipe_hash, train  # noqa: E402

from captioner.atomic_files import atomic_file  # noqa: E402
from captioner.box import Box, scaled_box  # noqa: E402
from captioner.caption import WordMaps  # noqa: E402
from captioner.cli.demo import scenes_source  # noqa: E402
from captioner.cli.train import configure, set_up_logging  # noqa: E402
from captioner.errors import InputError  # noqa: E402
from captioner.maps.colours import find_theme  # noqa: E402
from captioner.maps.lettering import shorten, write  # noqa: E402
from captioner.maps.panels import heat_panels  # noqa: E402

HARD = ["attention=hard", "objective=hard"]
ALL_AT_ONCE = ["attention/locality=everywhere", "optimizer.lr=1e-3"]
PICTURES: Mapping[str, Sequence[str]] = {
    "soft": [],
    "additive": ["attention/score=additive"],
    "concat": ["attention/score=concat"],
    "dot": ["attention/score=dot", "decoder.hidden_size=106"],  # the size of a region, which dot needs
    "bilinear": ["attention/score=bilinear"],
    "cosine": ["attention/score=cosine"],
    "multi_head": ["attention=multi_head"],
    "everywhere": ["attention/locality=everywhere"],
    "monotonic_window": ["attention/locality=monotonic_window"],
    "gaussian_window": ["attention/locality=gaussian_window"],
    "prior": ["attention/locality=prior"],
    "sparsemax": ["attention/distribution=sparsemax"],
    "entmax15": ["attention/distribution=entmax15"],
    "peak": [],
    "sample": HARD,
    "moving_average": [*HARD, "objective/baseline=moving_average"],
    "self_critical": [*HARD, "objective/baseline=self_critical"],
    "gumbel": ["attention/readout=gumbel"],
    "top_k": ["attention/readout=top_k"],
    "adaptive": ["attention=adaptive"],
    "self_attention": ["encoder=self_attention", "optimizer.lr=1e-3"],
    "lstm": ["decoder=lstm"],
    "gru": ["decoder=gru", "decoder.query=current"],
    "top_down": ["decoder=top_down"],
    "convolutional": ["decoder=convolutional", *ALL_AT_ONCE],
    "transformer": ["decoder=transformer", *ALL_AT_ONCE],
}
"""A picture's name -> overrides of the recipe. The same overrides are one run: `peak` is the soft
run with another readout."""
FUNCTION_WORDS = frozenset(
    re.findall(r"\w+", "a an the of and or is are to in on at with by it its there one them another some this that from")
)
"""Words that have no panel."""
WIDTH, GAP, MARGIN, PANEL_WIDTH = 900, 8, 10, 128
"""In pixels: of a picture, between panels, around all of them, and of a panel at most."""
MAXIMUM_WORDS = 8
"""In a picture."""


class Scene(NamedTuple):
    image: Image.Image
    caption: str


def main() -> int:
    options = parser().parse_args()
    set_up_logging()
    try:
        return int(options.run(options))
    except InputError as error:
        sys.exit(f"figures: {error}")


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = program.add_subparsers(required=True, metavar="maps|readme")
    maps = commands.add_parser("maps", help="train the missing runs and draw one picture per kind")
    maps.add_argument("--only", help=f"some of {','.join(PICTURES)} (default: all)")
    maps.add_argument("--epochs", type=int, default=1, help="of each run (default: %(default)s)")
    maps.add_argument("--parallel", type=int, default=2, metavar="N", help="runs at a time, which share the cores (default: %(default)s)")
    maps.add_argument("--out", type=Path, default=Path("outputs/figures"), help="the folder of the runs (default: %(default)s)")
    maps.add_argument("--pictures", type=Path, default=DOCS / "maps", help="default: docs/maps")
    maps.set_defaults(run=draw_maps)
    readme = commands.add_parser(
        "readme", help="draw the README's pictures; runs that are not given are trained, unless they are finished already"
    )
    for name in COMPARED:
        readme.add_argument(f"--{name}", type=Path, metavar="RUN")
    readme.add_argument("--out", type=Path, default=Path("outputs/kinds"), help="the folder of the runs (default: %(default)s)")
    readme.add_argument("--pictures", type=Path, default=DOCS, help="default: docs")
    readme.set_defaults(run=draw_readme)
    for command in (maps, readme):
        command.add_argument("--words", default="", help="further overrides of every run, in one string: data.train=200 data.val=20 ...")
        command.add_argument("--scene", type=int, default=6, help="number of the validation scene (default: %(default)s)")
        command.add_argument("--caption", help="the caption whose maps are drawn (default: the scene's longest reference)")
    return program


def draw_maps(options: argparse.Namespace) -> int:
    names = list(PICTURES) if options.only is None else options.only.split(",")
    for name in names:
        if name not in PICTURES:
            raise InputError(f"--only: {name!r} is none of {', '.join(PICTURES)}")
    scene = chosen_scene(options)
    recipes = {name: recipe(name, options.epochs, options.words.split()) for name in names}
    folders = {name: options.out / recipe_hash(words) for name, words in recipes.items()}
    missing = {folder: recipes[name] for name, folder in folders.items() if not finished(folder)}
    print(f"{len(names)} pictures of {len(set(folders.values()))} runs, {len(missing)} of them to be trained", file=sys.stderr, flush=True)

    def train_run(folder: Path) -> None:
        overrides = " ".join(missing[folder][1:])
        try:
            train(missing[folder], folder, options.parallel)
            print(f"trained {folder}: {overrides}", file=sys.stderr, flush=True)
        except subprocess.CalledProcessError:
            print(f"failed  {folder}: {overrides} (see {folder}.log)", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(options.parallel) as pool:
        list(pool.map(train_run, missing))
    left = [name for name in names if not finished(folders[name])]
    for name in names:
        if name not in left:
            save(picture(name, folders[name], scene), options.pictures / f"{name}.png")
    return 1 if left else 0


def recipe(name: str, epochs: int, more: Sequence[str]) -> list[str]:
    """The run's overrides; in the first third of hard attention, as in its recipe, all batches use
    the expectation."""
    from captioner.training.configuration import compose_run

    words = ["experiment=scenes", *PICTURES[name], f"trainer.max_epochs={epochs}", *more]
    if "objective=hard" in words:
        data = compose_run(words).data
        words.append(f"objective.expectation_batches={-(-data.train // data.batch_size) * epochs // 3}")
    return words


def finished(folder: Path) -> bool:
    """A run writes its scores last."""
    return (folder / "results" / "scores_val.json").is_file()


def chosen_scene(options: argparse.Namespace) -> Scene:
    source = scenes_source(configure(["experiment=scenes", *options.words.split()])[0])
    scenes = source.splits()["val"]
    if not 0 <= options.scene < len(scenes):
        raise InputError(f"--scene: there are {len(scenes)} validation scenes, from 0 on, and no {options.scene}")
    caption = options.caption or max(scenes.captions_of(options.scene), key=lambda text: len(text.split()))
    return Scene(Image.open(scenes.path(options.scene)).convert("RGB"), caption)


def picture(name: str, folder: Path, scene: Scene) -> Image.Image:
    """The strip of one kind; with several heads the maps of one word, with a sentinel also its
    weights."""
    from captioner.attention.readout import Peak
    from captioner.model import Captioner

    captioner: Any = Captioner.load(folder)
    if name == "peak":
        captioner.decoder.attention.readout = Peak()
    caption = captioner.align(scene.image, scene.caption)
    if name == "multi_head":
        word = content_words(caption.words)[-1]
        heads = caption.head_alphas[word]
        return strip(scene.image, caption.box, caption.words[word], heads, [f"head {number}" for number in range(1, len(heads) + 1)])
    return words_strip(scene, caption, name)


def words_strip(scene: Scene, caption: Any, label: str) -> Image.Image:
    """Maps of content words; with a sentinel those of the first words, since function words show
    what it does."""
    places = content_words(caption.words) if caption.sentinel is None else list(range(len(caption.words)))[: MAXIMUM_WORDS - 1]
    notes = None if caption.sentinel is None else [f"sentinel {caption.sentinel[word]:.2f}" for word in places]
    return strip(scene.image, caption.box, label, caption.alphas[places], [caption.words[word] for word in places], notes)


def content_words(words: Sequence[str]) -> list[int]:
    """Places of the words that have a panel."""
    return [place for place, word in enumerate(words) if word not in FUNCTION_WORDS][:MAXIMUM_WORDS] or [0]


def strip(
    image: Image.Image,
    box: Box,
    label: str,
    alphas: Float[np.ndarray, "panels rows cols"],
    captions: Sequence[str],
    notes: Sequence[str] | None = None,
) -> Image.Image:
    """The scene with `label` below it, then the maps with a caption (and a note) below each."""
    colours = find_theme("light")
    count = len(captions) + 1
    side = min((WIDTH - 2 * MARGIN - (count - 1) * GAP) // count, PANEL_WIDTH)
    size = (side, round(side * image.height / image.width))
    photo = image.resize(size, Image.Resampling.BICUBIC)
    panels = heat_panels(photo, alphas, scaled_box(box, image.size, size))
    drawing = Image.new(
        "RGB", (2 * MARGIN + count * side + (count - 1) * GAP, MARGIN + size[1] + (44 if notes else 27)), colours.background
    )
    canvas = ImageDraw.Draw(drawing)
    for number, (panel, text) in enumerate(zip([photo, *panels], [label, *captions], strict=True)):
        left, top = MARGIN + number * (side + GAP), MARGIN
        drawing.paste(panel, (left, top))
        write(canvas, (left, top + size[1] + 16), shorten(text, 14, side), 14, colours.text if number else colours.accent)
        if number and notes:
            write(canvas, (left, top + size[1] + 33), shorten(notes[number - 1], 12, side), 12, colours.muted)
    return drawing


def stacked(strips: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(one.width for one in strips), sum(one.height for one in strips) + MARGIN), find_theme("light").background)
    top = 0
    for one in strips:
        whole.paste(one, (0, top))
        top += one.height
    return whole


def save(drawing: Image.Image, path: Path) -> None:
    """As a PNG of 176 colours, a third of the size; small bright spots keep their colours."""
    with atomic_file(path) as temporary:
        drawing.quantize(176, kmeans=2, dither=Image.Dither.NONE).save(temporary, optimize=True)
    print(f"{path}  {drawing.width} x {drawing.height}, {path.stat().st_size / 1024:.0f} KB", file=sys.stderr, flush=True)


def draw_readme(options: argparse.Namespace) -> int:
    from captioner.explain.kinds import explain
    from captioner.maps.gallery import NAMES
    from captioner.maps.matrix import alignment_matrix
    from captioner.model import Captioner

    scene = chosen_scene(options)
    runs = {name: getattr(options, name) or finished_run(name, 0, options.out) for name in COMPARED}
    captions = {name: Captioner.load(run).align(scene.image, scene.caption) for name, run in runs.items()}
    save(stacked([words_strip(scene, one, name) for name, one in captions.items()]), options.pictures / "kinds.png")
    soft, places = captions["soft"], content_words(captions["soft"].words)
    words = [soft.words[word] for word in places]
    explanations = explain(Captioner.load(runs["soft"]), scene.image, soft.words)
    rows = [strip(scene.image, soft.box, NAMES.get(name, name.capitalize()), maps[places], words) for name, maps in explanations.items()]
    save(stacked(rows), options.pictures / "explanations.png")
    save(alignment_matrix(WordMaps(scene.image, soft.words, soft.alphas, soft.box)), options.pictures / "alignment.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
