"""A run → one self-contained HTML page."""

from lab.report.page import render

__all__ = ["render"]
