"""Coefficients of GARCH, GJR and EGARCH from returns: the likeliest ones, found by Newton's steps.

Bollerslev (1986), Glosten, Jagannathan & Runkle (1993), Nelson (1991). All have a constant mean and normal errors; e is
a return less its mean, h the variance that was expected of it, h' that of the next.

    GARCH    h' = omega + alpha e² + beta h
    GJR      h' = omega + (alpha + gamma 1{e < 0}) e² + beta h
    EGARCH   ln h' = omega + alpha (|z| - sqrt(2/pi)) + gamma z + beta ln h,  z = e / sqrt(h)
"""

import math

import numpy as np

from lab.compiled import compiled
from lab.nouns import Ages, Matrix, Vector

Derivatives = tuple[float, ...]  # one by each coefficient, or by each two of them; omega is w in their names

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


@compiled
def refitted_vol(returns: Vector, window: int, every: int, age: Ages, limits: Matrix, starts: Matrix) -> Vector:
    """Volatility of the next return; fits fall on the rows whose number in the stretch `every` divides."""
    out = np.full(returns.size, np.nan)
    found = np.full(5, np.nan)
    variance = np.nan
    height = returns.size // age.size
    for t in range(returns.size):
        first = t
        if (age[t // height] + t % height) % every == 0 and t % height + 1 >= window:
            first = t + 1 - window
            found, _ = fitted(returns[first : t + 1], GARCH, limits, starts)
            variance = found[1] + (found[2] + found[4]) * backcast_of(returns[first : t + 1])
        for k in range(first, t + 1):
            e = returns[k] - found[0]
            variance = found[1] + found[2] * e * e + found[4] * variance
        out[t] = math.sqrt(variance)
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
    slopes: Derivatives = (0.0, 1.0, backcast, backcast / 2, backcast)
    bends: Derivatives = (0.0,) * 8
    uphill: Derivatives = (0.0,) * 5
    downward: Derivatives = (0.0,) * 15
    quadratic, logarithm, product = 0.0, 0.0, 1.0
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
        uphill = gradient_with(uphill, z, first, slopes)
        downward = curvature_with(downward, inverse, mixed, second, bend, slopes, bends)
        fell = 1.0 if e < 0 else 0.0
        weight = alpha + gamma * fell
        bends = next_bends(bends, slopes, e, fell, weight, beta)
        slopes = next_slopes(slopes, h, e, fell, weight, beta)
        h = omega + weight * squared + beta * h
    k = 0
    for i in range(5):
        gradient[i] = uphill[i]
        for j in range(i, 5):
            curvature[i, j] = curvature[j, i] = downward[k]
            k += 1
    return -0.5 * (quadratic + logarithm + math.log(product))


@compiled
def gradient_with(sums: Derivatives, by_mean: float, by_variance: float, slopes: Derivatives) -> Derivatives:
    """The gradient of GJR's likelihood with one more return, whose term has these slopes by mu and by the variance."""
    g_m, g_w, g_a, g_g, g_b = sums
    h_m, h_w, h_a, h_g, h_b = slopes
    return (
        g_m + (by_mean + by_variance * h_m),
        g_w + by_variance * h_w,
        g_a + by_variance * h_a,
        g_g + by_variance * h_g,
        g_b + by_variance * h_b,
    )


@compiled
def curvature_with(
    sums: Derivatives,
    inverse: float,
    mixed: float,
    second: float,
    bend: float,
    slopes: Derivatives,
    bends: Derivatives,
) -> Derivatives:
    """The downward curvature of GJR's likelihood with one more return, row by row of the upper triangle.

    Its term curves downward by mu twice, by mu and the variance, and by the variance twice: `inverse`, `mixed` and
    `second`. What the variance itself bends counts `bend`.
    """
    c_mm, c_mw, c_ma, c_mg, c_mb, c_ww, c_wa, c_wg, c_wb, c_aa, c_ag, c_ab, c_gg, c_gb, c_bb = sums
    h_m, h_w, h_a, h_g, h_b = slopes
    h_mm, h_ma, h_mg, h_mb, h_wb, h_ab, h_gb, h_bb = bends
    s_m, s_w, s_a, s_g = second * h_m + mixed, second * h_w, second * h_a, second * h_g
    return (
        c_mm + (inverse + (s_m + mixed) * h_m - bend * h_mm),
        c_mw + s_m * h_w,
        c_ma + (s_m * h_a - bend * h_ma),
        c_mg + (s_m * h_g - bend * h_mg),
        c_mb + (s_m * h_b - bend * h_mb),
        c_ww + s_w * h_w,
        c_wa + s_w * h_a,
        c_wg + s_w * h_g,
        c_wb + (s_w * h_b - bend * h_wb),
        c_aa + s_a * h_a,
        c_ag + s_a * h_g,
        c_ab + (s_a * h_b - bend * h_ab),
        c_gg + s_g * h_g,
        c_gb + (s_g * h_b - bend * h_gb),
        c_bb + (second * h_b * h_b - bend * h_bb),
    )


@compiled
def next_slopes(slopes: Derivatives, h: float, e: float, fell: float, weight: float, beta: float) -> Derivatives:
    """Derivatives of GJR's next variance by mu, omega, alpha, gamma and beta, from those of this one, `h`."""
    h_m, h_w, h_a, h_g, h_b = slopes
    squared = e * e
    return (
        -2 * e * weight + beta * h_m,
        1 + beta * h_w,
        squared + beta * h_a,
        squared * fell + beta * h_g,
        h + beta * h_b,
    )


@compiled
def next_bends(
    bends: Derivatives, slopes: Derivatives, e: float, fell: float, weight: float, beta: float
) -> Derivatives:
    """Second derivatives of GJR's next variance, those that are not always 0, from the ones of this variance."""
    h_mm, h_ma, h_mg, h_mb, h_wb, h_ab, h_gb, h_bb = bends
    h_m, h_w, h_a, h_g, h_b = slopes
    return (
        2 * weight + beta * h_mm,
        -2 * e + beta * h_ma,
        -2 * e * fell + beta * h_mg,
        h_m + beta * h_mb,
        h_w + beta * h_wb,
        h_a + beta * h_ab,
        h_g + beta * h_gb,
        2 * h_b + beta * h_bb,
    )


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
