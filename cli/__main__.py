"""`python -m cli` is the `lab` command."""

from cli.main import main

main()
