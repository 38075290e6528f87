"""Bars → columns: one file per family, one definition for batch and live.

A feature is an expression over one unbroken stretch of one symbol with a declared look-back. Batch evaluates it
over all bars; live evaluates the same expression over the last `lookback` bars and takes the last row.
"""

from lab.features import calendar, garch, momentum, order_flow, price, regime, trend, volatility, volume
from lab.features.catalogue import (
    FEATURES,
    Fits,
    compute,
    compute_fitted,
    described,
    feature,
    fit,
    fitted_feature,
    over_stretch,
    plain,
    resolve,
    resolve_all,
)

__all__ = [
    "FEATURES",
    "Fits",
    "calendar",
    "compute",
    "compute_fitted",
    "described",
    "feature",
    "fit",
    "fitted_feature",
    "garch",
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
