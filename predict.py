"""`python predict.py ...` is `captioner predict ...`."""

import sys

from captioner.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
