"""`python -m freezeframe` is the command line."""

from freezeframe.cli.main import run

run()
