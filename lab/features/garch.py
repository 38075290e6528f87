"""GARCH, GJR and EGARCH: coefficients from training bars or from the last ones, and the variance that they expect.

Bollerslev (1986), Glosten, Jagannathan & Runkle (1993), Nelson (1991). All have a constant mean and normal errors; e is
a return less its mean, in units of the deviation of the returns that were fitted.

    GARCH    h' = omega + alpha e² + beta h
    GJR      h' = omega + (alpha + gamma 1{e < 0}) e² + beta h
    EGARCH   ln h' = omega + alpha (|z| - sqrt(2/pi)) + gamma z + beta ln h,  z = e / sqrt(h)
"""

import math

import numpy as np

from lab.compiled import compiled
from lab.errors import NotEnoughHistory
from lab.features.catalogue import feature, fitted_feature
from lab.features.price import log_change
from lab.features.windows import exponential_sum, lag, memory, restarted
from lab.nouns import Bars, Formula, Matrix, Numbers, Vector

FEWEST_RETURNS = 250
# A variance that never forgets has no look-back: at 0.99 a shock fades to 1e-12 in 2,750 bars.
LARGEST_BETA = 0.99
SMALLEST_BETA = 0.001

GARCH, GJR, EGARCH = 0, 1, 2
COEFFICIENTS = ("mu", "omega", "alpha", "gamma", "beta")
SMALLEST_OMEGA = 1e-8  # of the variance of what is fitted: no variance may ever be 0
MEAN_SIZE = math.sqrt(2 / math.pi)  # of a standard normal variable
# The first variance is an average of the first squares, with weights falling by this.
BACKCAST_DECAY, BACKCAST_RETURNS = 0.94, 75
LOGS_AT_ONCE = 16  # variances are multiplied before the logarithm; between 1e-8 and 1e6 their product stays finite
MOST_STEPS, MOST_HALVINGS = 200, 40
# Of log likelihood, that the next step promises, where a search has come near a top, and where it is over.
NEAR_GAIN, SETTLED_GAIN = 0.1, 1e-10
ROUNDING = 1e-14
RIDGE = 0.01  # on the diagonal of the expected curvature, so that coefficients that do the same stay apart
NUDGE = 1e-5

# What must not be negative: each row times the coefficients, plus the last column.
GARCH_LIMITS = np.array(
    [[0, 1, 0, 0, 0, -SMALLEST_OMEGA], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, -1, 0, -1, 1]], dtype=float
)
GJR_LIMITS = np.vstack([GARCH_LIMITS[:3], np.array([[0, 0, 1, 1, 0, 0], [0, 0, -1, -0.5, -1, 1]], dtype=float)])
EGARCH_LIMITS = np.array([[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, -1, 1]], dtype=float)
LIMITS = (GARCH_LIMITS, GJR_LIMITS, EGARCH_LIMITS)
# A likelihood may have several tops, so the search begins in several places: alpha, gamma, beta.
GARCH_STARTS = np.array([[0.02, 0, 0.96], [0.1, 0, 0.8], [0.05, 0, 0.45]])
GJR_STARTS = np.array([[0.02, 0.02, 0.95], [0.03, 0.06, 0.91], [0.05, 0.1, 0.8], [0.05, 0.05, 0.45]])
EGARCH_STARTS = np.array([[0.05, 0, 0.98], [0.1, -0.1, 0.95], [0.2, 0, 0.8]])
STARTS = (GARCH_STARTS, GJR_STARTS, EGARCH_STARTS)


def returns_of(bars: Bars) -> Vector:
    """Log returns of one symbol's bars, oldest first; none of them reaches across a gap."""
    closes = bars.frame["close"].to_numpy()
    changes = [log_change(closes[start : start + rows])[1:] for start, rows in bars.stretches()]
    return np.concatenate([np.empty(0), *changes])


def scaled_returns(bars: Bars) -> tuple[Vector, float]:
    """Log returns of one symbol in units of their own deviation, and that; too few or none that move is an error."""
    returns = returns_of(bars)
    scale = float(np.std(returns)) if returns.size else 0.0
    if returns.size < FEWEST_RETURNS or scale == 0.0:
        raise NotEnoughHistory(
            f"GARCH needs {FEWEST_RETURNS} returns that move; {bars.symbols[0]} has {returns.size} to train on",
            fix="lengthen `train`, or leave the garch features out",
        )
    return returns / scale, scale


def fit_garch(bars: Bars) -> Numbers:
    """Gaussian maximum likelihood on the log returns of `bars`.

    Returns mu, omega, alpha, beta of returns divided by `scale`, their own deviation, which keeps the optimiser
    on firm ground. A market that never moved raises NotEnoughHistory, as does one with under 250 returns.
    """
    returns, scale = scaled_returns(bars)
    mu, omega, alpha, beta = estimate(returns)
    omega, beta = forgetful(omega, beta)
    return {"mu": mu, "omega": omega, "alpha": alpha, "beta": beta, "scale": scale}


def fit_gjr(bars: Bars) -> Numbers:
    """As `fit_garch`, with `gamma`: what a fall adds to alpha."""
    returns, scale = scaled_returns(bars)
    found, _ = likeliest(returns, GJR)
    mu, omega, alpha, gamma, beta = found.tolist()
    omega, beta = forgetful(omega, beta)
    return {"mu": mu, "omega": omega, "alpha": alpha, "gamma": gamma, "beta": beta, "scale": scale}


def fit_egarch(bars: Bars) -> Numbers:
    """As `fit_garch`, for the logarithm of the variance: `alpha` weighs the size of a shock, `gamma` its sign."""
    returns, scale = scaled_returns(bars)
    found, _ = likeliest(returns, EGARCH)
    mu, omega, alpha, gamma, beta = found.tolist()
    if beta > LARGEST_BETA:
        omega, beta = omega * (1 - LARGEST_BETA) / (1 - beta) if beta < 1 else 0.0, LARGEST_BETA
    return {"mu": mu, "omega": omega, "alpha": alpha, "gamma": gamma, "beta": beta, "scale": scale}


def forgetful(omega: float, beta: float) -> tuple[float, float]:
    """omega and beta with beta where a variance has a finite memory, at the long-run level that they implied."""
    if beta > LARGEST_BETA:
        return omega * (1 - LARGEST_BETA) / (1 - beta) if beta < 1 else omega, LARGEST_BETA
    return omega, max(beta, SMALLEST_BETA)


def estimate(returns: Vector) -> tuple[float, float, float, float]:
    """mu, omega, alpha, beta of a constant-mean GARCH(1,1) with normal errors, in the units of the returns."""
    mu, omega, alpha, _, beta = likeliest(returns, GARCH)[0].tolist()
    return mu, omega, alpha, beta


def likeliest(returns: Vector, kind: int) -> tuple[Vector, float]:
    """mu, omega, alpha, gamma, beta of greatest likelihood, and its logarithm, in the units of the returns."""
    return fitted(np.ascontiguousarray(returns), kind, LIMITS[kind], STARTS[kind])


def refits(returns: Vector, window: int, every: int = 1) -> tuple[Matrix, Vector]:
    """GARCH(1,1) fitted on the last `window` returns, at each `every`-th of them that ends a full window.

    One row of mu, omega, alpha, gamma (0), beta a fit, and its log likelihood, in the units of the returns. Every
    window is fitted from its own cold start, so that it rests on nothing else.
    """
    ends = range(window, len(returns) + 1, every)
    found = [likeliest(returns[end - window : end], GARCH) for end in ends]
    return np.array([each for each, _ in found]).reshape(-1, 5), np.array([likelihood for _, likelihood in found])


def garch_memory(numbers: Numbers) -> int:
    """Bars until the oldest shock weighs under 1e-12, and one for the first return."""
    return memory(numbers["beta"]) + 1


def shocks(numbers: Numbers, close: Vector) -> Vector:
    """Log returns less their mean, in units of `scale`."""
    return log_change(close) / numbers["scale"] - numbers["mu"]


def next_variance(numbers: Numbers, close: Vector, age: int) -> Vector:
    """Variance of the next scaled return: omega / (1 - beta) + alpha Σ beta^k e²[-k], known at this close."""
    beta = numbers["beta"]
    squares = shocks(numbers, close) ** 2
    return numbers["omega"] / (1 - beta) + numbers["alpha"] * exponential_sum(squares, beta, memory(beta), age)


def variance_after_falls(numbers: Numbers, close: Vector, age: int) -> Vector:
    """What falls alone add to GJR's variance of the next scaled return: gamma Σ beta^k e²[-k] 1{e[-k] < 0}."""
    beta = numbers["beta"]
    falls = np.minimum(shocks(numbers, close), 0.0)
    return numbers["gamma"] * exponential_sum(falls * falls, beta, memory(beta), age)


def next_gjr_variance(numbers: Numbers, close: Vector, age: int) -> Vector:
    """Variance that GJR expects of the next scaled return, known at this close."""
    return next_variance(numbers, close, age) + variance_after_falls(numbers, close, age)


def egarch_variance(numbers: Numbers, memory: int, close: Vector, age: int) -> Vector:
    """Variance that EGARCH expects of the next scaled return, from its long-run level `memory` bars or more ago."""
    omega, alpha, gamma, beta = (numbers[name] for name in COEFFICIENTS[1:])
    return restarted(lambda e: egarch_filter(e, omega, alpha, gamma, beta), memory, age, shocks(numbers, close))


def averaged(omega: float, persistence: float, horizon: int) -> tuple[float, float]:
    """(c, k) such that c + k h is the mean variance expected of the next `horizon` bars, the first of which has h.

    Each bar's expectation is omega + persistence times that of the bar before.
    """
    constant, slope = 0.0, 1.0
    constants, slopes = [], []
    for _ in range(horizon):
        constants.append(constant)
        slopes.append(slope)
        constant, slope = omega + persistence * constant, persistence * slope
    return math.fsum(constants) / horizon, math.fsum(slopes) / horizon


@fitted_feature(fit=fit_garch, lookback=garch_memory, needs=["close"])
def garch_vol(numbers: Numbers) -> Formula:
    """Volatility that GARCH(1,1), fitted on training bars, expects of the next bar's log return."""
    return lambda close, age: numbers["scale"] * np.sqrt(next_variance(numbers, close, age))


@fitted_feature(fit=fit_garch, lookback=lambda numbers: garch_memory(numbers) + 1, needs=["close"])
def garch_shock(numbers: Numbers) -> Formula:
    """Latest log return less its mean, in units of the volatility that GARCH(1,1) had expected of it."""
    return lambda close, age: shocks(numbers, close) / np.sqrt(lag(next_variance(numbers, close, age)))


@fitted_feature(fit=fit_garch, lookback=garch_memory, needs=["close"])
def garch_forecast(numbers: Numbers, horizon: int = 10) -> Formula:
    """Root of the mean variance that GARCH(1,1) expects of the next `horizon` log returns, per bar. Bollerslev (1986).

    Times sqrt(horizon) it is the volatility of their sum.
    """
    constant, slope = averaged(numbers["omega"], numbers["alpha"] + numbers["beta"], horizon)
    return lambda close, age: numbers["scale"] * np.sqrt(constant + slope * next_variance(numbers, close, age))


@fitted_feature(fit=fit_garch, lookback=garch_memory, needs=["close"])
def garch_excess(numbers: Numbers) -> Formula:
    """ln(garch_vol / standard deviation of the training returns): 0 where volatility is at its usual level.

    The usual level is that of the sample; the one that the coefficients imply does not exist where alpha + beta is 1.
    """
    return lambda close, age: 0.5 * np.log(next_variance(numbers, close, age))


@fitted_feature(fit=fit_gjr, lookback=garch_memory, needs=["close"])
def gjr_vol(numbers: Numbers) -> Formula:
    """Volatility that GJR, which lets falls weigh differently, expects of the next log return.

    Glosten, Jagannathan & Runkle (1993), fitted on training bars.
    """
    return lambda close, age: numbers["scale"] * np.sqrt(next_gjr_variance(numbers, close, age))


@fitted_feature(fit=fit_gjr, lookback=lambda numbers: garch_memory(numbers) + 1, needs=["close"])
def gjr_shock(numbers: Numbers) -> Formula:
    """Latest log return less its mean, in units of the volatility that GJR had expected of it."""
    return lambda close, age: shocks(numbers, close) / np.sqrt(lag(next_gjr_variance(numbers, close, age)))


@fitted_feature(fit=fit_gjr, lookback=garch_memory, needs=["close"])
def gjr_leverage(numbers: Numbers) -> Formula:
    """Share of GJR's next variance that is there because returns fell; negative where falls calm the market."""

    def share(close: Vector, age: int) -> Vector:
        after_falls = variance_after_falls(numbers, close, age)
        return after_falls / (next_variance(numbers, close, age) + after_falls)

    return share


@fitted_feature(fit=fit_egarch, lookback=lambda memory: 2 * memory + 1, needs=["close"])
def egarch_vol(numbers: Numbers, memory: int = 500) -> Formula:
    """Volatility that EGARCH(1,1), fitted on training bars, expects of the next bar's log return. Nelson (1991).

    The filter begins from the long-run level between `memory` and 2 `memory` returns ago.
    """
    return lambda close, age: numbers["scale"] * np.sqrt(egarch_variance(numbers, memory, close, age))


@fitted_feature(fit=fit_egarch, lookback=lambda memory: 2 * memory + 2, needs=["close"])
def egarch_shock(numbers: Numbers, memory: int = 500) -> Formula:
    """Latest log return less its mean, in units of the volatility that EGARCH(1,1) had expected of it."""
    return lambda close, age: shocks(numbers, close) / np.sqrt(lag(egarch_variance(numbers, memory, close, age)))


@feature(lookback=lambda window, every: window + every)
def rolling_garch_vol(window: int = 1000, every: int = 1) -> Formula:
    """Volatility that GARCH(1,1) expects of the next log return, refitted on the last `window` at every `every`-th bar.

    Between two fits the coefficients are held and the variance goes on from bar to bar. Every fit begins cold, from
    its own window. Null where a return of the window is missing, and where the window never moved.
    """
    return lambda close, age: refitted_vol(log_change(close), window, every, age, GARCH_LIMITS, GARCH_STARTS)


@compiled
def refitted_vol(returns: Vector, window: int, every: int, age: int, limits: Matrix, starts: Matrix) -> Vector:
    """Volatility of the next return; fits fall on the rows whose number in the stretch `every` divides."""
    out = np.full(returns.size, np.nan)
    found = np.full(5, np.nan)
    variance = np.nan
    for t in range(returns.size):
        first = t
        if (age + t) % every == 0 and t + 1 >= window:
            first = t + 1 - window
            found, _ = fitted(returns[first : t + 1], GARCH, limits, starts)
            variance = found[1] + (found[2] + found[4]) * backcast_of(returns[first : t + 1])
        for k in range(first, t + 1):
            e = returns[k] - found[0]
            variance = found[1] + found[2] * e * e + found[4] * variance
        out[t] = math.sqrt(variance)
    return out


@compiled
def egarch_filter(e: Vector, omega: float, alpha: float, gamma: float, beta: float) -> Vector:
    """Variance expected after each shock, from the long-run level; NaN at NaN, which is passed over."""
    out = np.full(e.size, np.nan)
    level = omega / (1 - beta)
    for t in range(e.size):
        if math.isnan(e[t]):
            continue
        z = e[t] * math.exp(-0.5 * level)
        level = omega + alpha * (abs(z) - MEAN_SIZE) + gamma * z + beta * level
        out[t] = math.exp(level)
    return out


@compiled
def backcast_of(returns: Vector) -> float:
    """The variance before the first return: an average of the first squared deviations, the earliest weighing most."""
    mean = np.mean(returns)
    weight, total, weights = 1.0, 0.0, 0.0
    for t in range(min(BACKCAST_RETURNS, returns.size)):
        total += weight * (returns[t] - mean) ** 2
        weights += weight
        weight *= BACKCAST_DECAY
    return total / weights


@compiled
def fitted(returns: Vector, kind: int, limits: Matrix, starts: Matrix) -> tuple[Vector, float]:
    """Coefficients of greatest likelihood, and its logarithm; NaN where a return is missing or none moved."""
    scale = np.std(returns)
    if not scale > 1e-12 * abs(np.mean(returns)):
        return np.full(5, np.nan), np.nan
    scaled = returns / scale
    backcast = backcast_of(scaled)
    best, highest = np.empty(5), -np.inf
    for k in range(starts.shape[0]):
        alpha, gamma, beta = starts[k]
        omega = 0.0 if kind == EGARCH else 1 - alpha - gamma / 2 - beta  # which gives the variance of the sample
        begun = np.array([np.mean(scaled), omega, alpha, gamma, beta])
        reached, likelihood = climbed(begun, scaled, backcast, kind, limits, NEAR_GAIN)
        if likelihood > highest:
            best, highest = reached, likelihood
    found, likelihood = climbed(best, scaled, backcast, kind, limits, SETTLED_GAIN)
    found[0] *= scale
    found[4] = max(found[4], 0.0)
    if kind == EGARCH:
        found[1] += (1 - found[4]) * 2 * math.log(scale)
    else:
        found[1] *= scale * scale
        found[2] = max(found[2], 0.0)
    return found, likelihood - returns.size * (math.log(scale) + 0.5 * math.log(2 * math.pi))


@compiled
def climbed(
    begun: Vector, returns: Vector, backcast: float, kind: int, limits: Matrix, least_gain: float
) -> tuple[Vector, float]:
    """Newton's steps up the likelihood, each the best of a quadratic model inside the limits, halved while too long.

    Where the exact curvature has no maximum or misleads, the expected one takes its place for a step.
    """
    at = begun
    rows = np.ascontiguousarray(limits[:, :5])
    gradient, curvature, uphill, bending = np.zeros(5), np.zeros((5, 5)), np.zeros(5), np.zeros((5, 5))
    height = terms(at, returns, backcast, kind, True, gradient, curvature)
    exact = True
    for _ in range(MOST_STEPS):
        slack = times(rows, at) + limits[:, 5]
        part_held(curvature, gradient, rows, slack)
        bent, inverse = inverted(curvature)
        if not (exact and bent):
            exact = False
            terms(at, returns, backcast, kind, False, gradient, curvature)
            for k in range(5):
                curvature[k, k] *= 1 + RIDGE
            bent, inverse = inverted(curvature)
        if not bent:
            break
        step = bounded_step(inverse, gradient, rows, slack)
        gain = float(np.sum(step * (gradient - 0.5 * times(curvature, step))))
        length, climbing = 1.0, False
        for _ in range(MOST_HALVINGS):
            tried = at + length * step
            reached = terms(tried, returns, backcast, kind, True, uphill, bending)
            climbing = reached >= height + 1e-4 * length * gain
            if climbing:
                break
            length /= 2
        if climbing:
            at, height = tried, reached
            gradient, uphill = uphill, gradient
            curvature, bending = bending, curvature
        elif not exact:
            break
        exact = climbing
        if climbing and gain < least_gain:
            break
    return at, height


@compiled
def part_held(curvature: Matrix, gradient: Vector, rows: Matrix, slack: Vector) -> None:
    """Part, in the curvature, the others from a coefficient that lies on its limit and is pushed against it.

    It cannot move, so how it would bend the likelihood together with them must not stand in their way.
    """
    for i in range(slack.size):
        k = np.argmax(np.abs(rows[i]))
        if np.count_nonzero(rows[i]) == 1 and slack[i] <= ROUNDING and gradient[k] * rows[i, k] < 0:
            kept = max(curvature[k, k], 1.0)
            curvature[k, :] = 0.0
            curvature[:, k] = 0.0
            curvature[k, k] = kept


@compiled
def times(matrix: Matrix, vector: Vector) -> Vector:
    """A small matrix times a vector."""
    out = np.zeros(matrix.shape[0])
    for i in range(matrix.shape[0]):
        for k in range(matrix.shape[1]):
            out[i] += matrix[i, k] * vector[k]
    return out


@compiled
def inverted(matrix: Matrix) -> tuple[bool, Matrix]:
    """Whether a small symmetric matrix is positive definite, and then its inverse, by elimination."""
    n = matrix.shape[0]
    left, right = matrix.copy(), np.eye(n)
    for k in range(n):
        pivot = left[k, k]
        if not 1e-14 * matrix[k, k] < pivot < np.inf:
            return False, right
        for m in range(n):
            left[k, m] /= pivot
            right[k, m] /= pivot
        for i in range(n):
            factor = left[i, k]
            if i != k and factor != 0:
                for m in range(n):
                    left[i, m] -= factor * left[k, m]
                    right[i, m] -= factor * right[k, m]
    return True, right


@compiled
def bounded_step(inverse: Matrix, gradient: Vector, rows: Matrix, slack: Vector) -> Vector:
    """The step that climbs a quadratic model furthest while rows · step >= -slack.

    `inverse` is that of the model's downward curvature. Every set of limits that the step may lie on is tried, from
    none to all: of the few that there are, one satisfies the conditions of Karush, Kuhn and Tucker.
    """
    free_step = times(inverse, gradient)
    for chosen in range(1 << slack.size):
        active = np.array([k for k in range(slack.size) if chosen >> k & 1], dtype=np.int64)
        step = free_step
        if active.size:
            held = rows[active]
            reach = np.empty((active.size, inverse.shape[0]))  # how the step answers a push from each limit
            for i in range(active.size):
                reach[i] = times(inverse, held[i])
            answers = np.empty((active.size, active.size))
            for i in range(active.size):
                answers[i] = times(held, reach[i])
            regular, solved = inverted(answers)
            if not regular:
                continue
            push = times(solved, -slack[active] - times(held, free_step))
            if np.min(push) < 0:
                continue
            step = free_step + times(reach.T, push)
        if np.min(times(rows, step) + slack) >= -1e-12:
            return step
    return np.zeros(free_step.size)


@compiled
def terms(
    at: Vector, returns: Vector, backcast: float, kind: int, exact: bool, gradient: Vector, curvature: Matrix
) -> float:
    """Log likelihood but for its constant; writes its gradient and its downward curvature, exact or as expected.

    A coefficient that the model lacks has no gradient, and no limit may name it: then no step moves it.
    """
    if kind == EGARCH:
        return egarch_terms(at, returns, backcast, exact, gradient, curvature)
    height = gjr_terms(at, returns, backcast, exact, gradient, curvature)
    if kind == GARCH:
        gradient[3] = 0.0
        curvature[3, :] = 0.0
        curvature[:, 3] = 0.0
        curvature[3, 3] = 1.0
    return height


@compiled
def gjr_terms(at: Vector, returns: Vector, backcast: float, exact: bool, gradient: Vector, curvature: Matrix) -> float:
    """`terms` of GJR, of which GARCH is the one without gamma.

    Derivatives of the variance h follow its own recursion; `h_ab` is the second one by alpha and beta.
    """
    mu, omega, alpha, gamma, beta = at
    h = omega + (alpha + gamma / 2 + beta) * backcast
    h_m, h_w, h_a, h_g, h_b = 0.0, 1.0, backcast, backcast / 2, backcast
    h_mm = h_ma = h_mg = h_mb = h_wb = h_ab = h_gb = h_bb = 0.0
    quadratic, logarithm, product = 0.0, 0.0, 1.0
    g_m = g_w = g_a = g_g = g_b = 0.0
    c_mm = c_mw = c_ma = c_mg = c_mb = c_ww = c_wa = c_wg = c_wb = 0.0
    c_aa = c_ag = c_ab = c_gg = c_gb = c_bb = 0.0
    for t in range(returns.size):
        e = returns[t] - mu
        squared = e * e
        inverse = 1 / h
        z = e * inverse
        quadratic += e * z
        product *= h
        if t % LOGS_AT_ONCE == 0:
            logarithm += math.log(product)
            product = 1.0
        first = 0.5 * inverse * (e * z - 1)  # of the likelihood by h; then its second, and that by mu and h
        second = inverse * inverse * (e * z - 0.5) if exact else 0.5 * inverse * inverse
        mixed = z * inverse if exact else 0.0
        bend = first if exact else 0.0
        g_m += z + first * h_m
        g_w += first * h_w
        g_a += first * h_a
        g_g += first * h_g
        g_b += first * h_b
        s_m, s_w, s_a, s_g = second * h_m + mixed, second * h_w, second * h_a, second * h_g
        c_mm += inverse + (s_m + mixed) * h_m - bend * h_mm
        c_mw += s_m * h_w
        c_ma += s_m * h_a - bend * h_ma
        c_mg += s_m * h_g - bend * h_mg
        c_mb += s_m * h_b - bend * h_mb
        c_ww += s_w * h_w
        c_wa += s_w * h_a
        c_wg += s_w * h_g
        c_wb += s_w * h_b - bend * h_wb
        c_aa += s_a * h_a
        c_ag += s_a * h_g
        c_ab += s_a * h_b - bend * h_ab
        c_gg += s_g * h_g
        c_gb += s_g * h_b - bend * h_gb
        c_bb += second * h_b * h_b - bend * h_bb
        fell = 1.0 if e < 0 else 0.0
        weight = alpha + gamma * fell
        h_mm = 2 * weight + beta * h_mm
        h_ma = -2 * e + beta * h_ma
        h_mg = -2 * e * fell + beta * h_mg
        h_mb = h_m + beta * h_mb
        h_wb = h_w + beta * h_wb
        h_ab = h_a + beta * h_ab
        h_gb = h_g + beta * h_gb
        h_bb = 2 * h_b + beta * h_bb
        h_m = -2 * e * weight + beta * h_m
        h_w = 1 + beta * h_w
        h_a = squared + beta * h_a
        h_g = squared * fell + beta * h_g
        h_b = h + beta * h_b
        h = omega + weight * squared + beta * h
    gradient[:] = np.array([g_m, g_w, g_a, g_g, g_b])
    upper = (c_mm, c_mw, c_ma, c_mg, c_mb, c_ww, c_wa, c_wg, c_wb, c_aa, c_ag, c_ab, c_gg, c_gb, c_bb)
    k = 0
    for i in range(5):
        for j in range(i, 5):
            curvature[i, j] = curvature[j, i] = upper[k]
            k += 1
    return -0.5 * (quadratic + logarithm + math.log(product))


@compiled
def egarch_terms(
    at: Vector, returns: Vector, backcast: float, exact: bool, gradient: Vector, curvature: Matrix
) -> float:
    """`terms` of EGARCH; its exact curvature is the difference of gradients to either side."""
    height = egarch_slopes(at, returns, backcast, gradient, curvature)
    if exact:
        above, below, unused = np.zeros(5), np.zeros(5), np.zeros((5, 5))
        for k in range(5):
            nudged = at.copy()
            nudged[k] += NUDGE
            egarch_slopes(nudged, returns, backcast, above, unused)
            nudged[k] -= 2 * NUDGE
            egarch_slopes(nudged, returns, backcast, below, unused)
            curvature[k] = (below - above) / (2 * NUDGE)
        curvature[:] = 0.5 * (curvature + curvature.T.copy())
    return height


@compiled
def egarch_slopes(at: Vector, returns: Vector, backcast: float, gradient: Vector, expected: Matrix) -> float:
    """Log likelihood of EGARCH; writes its gradient and the curvature that is expected of it."""
    mu, omega, alpha, gamma, beta = at
    level = omega + beta * math.log(backcast)
    slope = np.array([0.0, 1.0, 0.0, 0.0, math.log(backcast)])  # of the level, by each coefficient
    gradient[:] = 0.0
    expected[:] = 0.0
    height = 0.0
    for t in range(returns.size):
        narrow = math.exp(-0.5 * level)
        z = (returns[t] - mu) * narrow
        height -= 0.5 * (level + z * z)
        first = 0.5 * (z * z - 1)
        for i in range(5):
            gradient[i] += first * slope[i]
            for j in range(i, 5):
                expected[i, j] += 0.5 * slope[i] * slope[j]
        gradient[0] += z * narrow
        expected[0, 0] += narrow * narrow
        size = abs(z)
        towards = alpha * size + gamma * z
        carried = beta - 0.5 * towards
        by_mean = -(alpha * np.sign(z) + gamma) * narrow
        for i in range(5):
            slope[i] *= carried
        slope[0] += by_mean
        slope[1] += 1
        slope[2] += size - MEAN_SIZE
        slope[3] += z
        slope[4] += level
        level = omega + towards - alpha * MEAN_SIZE + beta * level
    for i in range(5):
        for j in range(i):
            expected[i, j] = expected[j, i]
    return height
