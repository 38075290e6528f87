"""A trading research workbench: fetch, features, walk-forward training, backtest, report."""
