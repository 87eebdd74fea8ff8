"""`python -m unetcu.synth`, the same as `unetcu synth`."""

import sys

from unetcu.cli import main

if __name__ == "__main__":
    sys.exit(main("synth"))
