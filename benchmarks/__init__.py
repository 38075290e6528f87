"""Measurements of `lab` beside what people use, each made by a command."""

import lab  # noqa: F401  before Polars, as the command line does
