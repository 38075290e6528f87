"""Bars → columns: one file per family, one definition for batch and live.

A feature is a formula over one unbroken stretch of one symbol with a declared look-back. Batch evaluates it over all
bars; live evaluates the same formula over the last `lookback` bars and takes the last row.
"""

from lab.features import (  # noqa: F401  importing a family registers its features, and sets the ready sets of them
    alpha158,
    averages,
    book,
    calendar,
    candlesticks,
    channels,
    cross_section,
    distribution,
    garch,
    liquidity,
    momentum,
    mood,
    order_flow,
    price,
    regime,
    seasonality,
    sets,
    smart_money,
    trend,
    volatility,
    volume,
    volume_profile,
)
from lab.features.catalogue import (
    FEATURES,
    SETS,
    across_feature,
    described,
    expanded,
    feature,
    fitted_feature,
    plain,
    resolve,
    resolve_all,
)
from lab.features.certificates import Certificate, certified, proved
from lab.features.computing import (
    Fits,
    compute,
    compute_fitted,
    compute_in_parts,
    fit,
    over_stretch,
)
from lab.features.last_row import Latest, LatestCompared, latest
from lab.features.recent import Recent

__all__ = [
    "FEATURES",
    "SETS",
    "Certificate",
    "Fits",
    "Latest",
    "LatestCompared",
    "Recent",
    "across_feature",
    "certified",
    "compute",
    "compute_fitted",
    "compute_in_parts",
    "described",
    "expanded",
    "feature",
    "fit",
    "fitted_feature",
    "latest",
    "over_stretch",
    "plain",
    "proved",
    "resolve",
    "resolve_all",
]
