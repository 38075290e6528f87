"""Bars → columns: one file per family, one definition for batch and live.

A feature is a formula over one unbroken stretch of one symbol with a declared look-back. Batch evaluates it over all
bars; live evaluates the same formula over the last `lookback` bars and takes the last row.
"""

from lab.features import calendar, garch, momentum, order_flow, price, regime, trend, volatility, volume
from lab.features.catalogue import FEATURES, described, feature, fitted_feature, plain, resolve, resolve_all
from lab.features.computing import Fits, compute, compute_fitted, compute_in_parts, fit, latest, over_stretch

__all__ = [
    "FEATURES",
    "Fits",
    "calendar",
    "compute",
    "compute_fitted",
    "compute_in_parts",
    "described",
    "feature",
    "fit",
    "fitted_feature",
    "garch",
    "latest",
    "momentum",
    "order_flow",
    "over_stretch",
    "plain",
    "price",
    "regime",
    "resolve",
    "resolve_all",
    "trend",
    "volatility",
    "volume",
]
