"""`python -m iii`: the command line, where the console script is not on the path."""

from __future__ import annotations

from iii.cli import main

main()
