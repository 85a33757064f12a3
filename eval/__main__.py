"""``python -m eval`` is the same as ``elpa``."""

from eval.cli import main

main()
