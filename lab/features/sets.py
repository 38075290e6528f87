"""Ready sets: a name for many features, to be written where a feature is: `features = ["core", "rsi(7)"]`."""

from lab.features import alpha158
from lab.features.catalogue import FEATURES, SETS

# Of open, high, low, close and volume alone, over one symbol, and of no more than about 800 bars each.
CORE = {
    "price": """log_return log_return(5) log_return(10) log_return(20) log_return(60) lagged_return(1) lagged_return(2)
        lagged_return(3) lagged_return(5) lagged_return(10) open_gap bar_range body upper_shadow lower_shadow
        close_location up_share up_streak range_position high_distance low_distance inside_share outside_share""",
    "trend": """sma_distance(10) sma_distance(20) sma_distance(50) sma_distance(200) ema_distance(20) ema_distance(50)
        wma_distance hull_distance kama_distance sma_cross ema_cross macd macd_signal macd_histogram plus_di minus_di
        adx aroon_up aroon_down supertrend_distance regression_slope regression_r2 regression_residual tenkan_distance
        kijun_distance cloud_distance donchian_position choppiness bollinger_position bollinger_width""",
    "momentum": """rsi(7) rsi stochastic_k stochastic_d stochastic_rsi cci roc mfi tsi cmo ultimate_oscillator
        balance_of_power efficiency_ratio return_zscore acceleration momentum_cascade""",
    "volatility": """realised_vol realised_vol(60) atr parkinson garman_klass rogers_satchell yang_zhang vol_ratio
        vol_of_vol jump_share jump_z har_week har_month vol_rank squeeze keltner_position max_drawdown""",
    "distribution": """return_skew return_kurtosis quantile_position quantile_spread autocorrelation variance_ratio
        hurst permutation_entropy fractional_difference tail_share""",
    "volume": """volume_zscore volume_ratio volume_rank volume_trend obv chaikin_money_flow force_index vwma_distance
        price_volume_correlation amihud corwin_schultz""",
    "regime": "market_regime cusum_break large_move_share burst_age",
    "candlesticks": "pattern_balance bullish_engulfing bearish_engulfing doji hammer",
    "calendar": "day_sin day_cos week_sin week_cos minutes_to_funding",
}
CLASSIC = """
    sma_distance(10) sma_distance(20) sma_distance(50) sma_distance(100) sma_distance(200) ema_distance(10)
    ema_distance(20) ema_distance(50) wma_distance dema_distance tema_distance trima_distance hull_distance
    kama_distance
    sma_cross ema_cross macd macd_signal macd_histogram ppo trix plus_di minus_di adx adxr aroon_up aroon_down
    aroon_oscillator supertrend_distance sar_distance tenkan_distance kijun_distance cloud_distance rsi stochastic_k
    stochastic_d stochastic_rsi cci roc williams_r mfi tsi ultimate_oscillator atr bollinger_position bollinger_width
    keltner_position donchian_position obv"""
SMART_MONEY = """swing_high_distance swing_low_distance swing_high_age swing_low_age structure_trend
    break_of_structure change_of_character structure_break_age fair_value_gap fair_value_gap_distance
    open_gap_balance order_block_distance order_block_inside liquidity_sweep equal_level_distance premium_discount"""
# Of klines with what takers bought.
MICROSTRUCTURE = """flow_imbalance flow_imbalance(20) flow_shift taker_ratio buy_bar_share flow_persistence
    flow_return_correlation flow_run tick_direction imbalance_zscore cvd_slope cvd_divergence flow_acceleration
    flow_autocorrelation vpin bulk_vpin price_impact amihud roll_spread corwin_schultz abdi_ranaldo trade_size
    vwap_deviation realised_variance bipower_variance jump_z poc_distance value_area_position"""


def core() -> list[str]:
    """What a first experiment on any market may begin with: over 100 columns of every family that bars alone feed."""
    return " ".join(CORE.values()).split()


def classic49() -> list[str]:
    """The 49 indicators that chart programs are made of."""
    return CLASSIC.split()


def smart_money16() -> list[str]:
    """Swings, structure, gaps, blocks, sweeps and where the price stands among them."""
    return SMART_MONEY.split()


def alpha_158() -> list[str]:
    """The 158 factors of Qlib, as published."""
    named = [name for name in FEATURES if FEATURES[name].family == "alpha158"]
    windowed = [name for name in named if FEATURES[name].signature.endswith("(window=20)")]
    return [name for name in named if name not in windowed] + [
        f"{name}({window})" for name in windowed for window in alpha158.WINDOWS
    ]


def microstructure() -> list[str]:
    """Who traded, what it cost and what it moved, of klines with what takers bought."""
    return MICROSTRUCTURE.split()


def every() -> list[str]:
    """Every registered feature with its default parameters; bars must have all their columns."""
    return list(FEATURES)


SETS |= {
    "core": core,
    "classic49": classic49,
    "smart_money16": smart_money16,
    "alpha158": alpha_158,
    "microstructure": microstructure,
    "all": every,
}
