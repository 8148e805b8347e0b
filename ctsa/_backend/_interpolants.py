"""States inside a step, from the slopes of the step alone, and how far off they are."""

from functools import cache

import numpy as np

# Of dopri8, by Bogacki and Shampine (1990): for stages 0 and 5 to 13 the powers 1 to 6 of the share of the step.
_DOPRI8 = np.array([
    [1.0, -6.6910181737837595, 19.999006933368396, -30.061056828966645, 22.139650499809406, -6.34483493928604],
    [0.0, -7.6142658045872675, 52.227353279294555, -121.49996277313346, 116.44221495503422, -39.61079198522025],
    [0.0, 10.728139263042886, -46.89191641810936, 83.17210046398478, -67.14513188259572, 20.376121380879145],
    [0.0, 0.5526637063753649, -0.18908932250105956, 9.572450755599366, -16.56722435274965, 7.334709882679536],
    [0.0, 4.218656262566515, -35.70759759462221, 87.84060576772056, -89.9916014847245, 32.88017743524592],
    [0.0, -0.6627209125361597, 6.273644808324035, -17.415210777076297, 22.623748964853284, -10.158899052642676],
    [0.0, -1.2636789001135462, 10.316088127245076, -28.590328951479098, 32.23623401673554, -12.540126809878256],
    [0.0, 5.410603789859042, -34.76507698666118, 81.66309505843414, -82.10203154883598, 29.555300148451604],
    [0.0, -7.032137906794574, 47.745797107822554, -114.93752913770093, 116.26621857911195, -41.79234864243906],
    [0.0, 2.3537586759714983, -19.008209934160803, 50.255836422617605, -53.90207774663854, 20.300692582210083],
])  # fmt: skip

# Of dopri5, by Shampine: weights of the state in the middle of the step.
_DOPRI5_MIDDLE = 0.5 * np.array([
    6025192743 / 30085553152, 0, 51252292925 / 65400821598, -2691868925 / 45128329728, 187940372067 / 1594534317056,
    -1776094331 / 19743644256, 11237099 / 235043384,
])  # fmt: skip

# The pairs of order 5(4) and below have interpolants whose error is of the size of the error that a step is accepted for,
# or of a higher order: that error measures both. The interpolant of dopri8 has order 5 only. These weights of its slopes
# vanish up to order 5, as the error of the interpolant does, and agree with that error at 0.85 of the step, where it is
# largest, as well as weights can at orders 6 to 8 (least squares over trees): what they give measures it.
MEASURES = {"dopri8": np.array([
    -0.01076345317734051, 0, 0, 0, 0, -0.4064910687737834, 0.05344029276724662, 0.7747496755687702, -0.6127433453622985,
    0.2038599661861377, 0.000613932836558786, -0.01481766754802037, -0.01422428158547667, 0.02637594908820627,
])}  # fmt: skip
MEASURED_ORDER = 6  # of the error of dopri8's interpolant


@cache
def polynomials(name: str, step: tuple[float, ...]) -> np.ndarray:
    """Return coefficients ``(s, p)``: at a share r of a step of length h the state is ``y + h sum_ij c_ij r^(j+1) k_i``.

    Args:
        name: of the method, "dopri5" or "dopri8"; all others have the cubic through states and slopes at both ends.
        step: weights of the step, ``(s,)``.
    """
    s = len(step)
    end, first, last = np.array(step), np.eye(s)[0], np.eye(s)[-1]
    if name == "dopri8":
        c = np.zeros((s, 6))
        c[[0, *range(5, s)]] = _DOPRI8
        return c
    if name == "dopri5":
        middle = _DOPRI5_MIDDLE
        columns = [
            first, last - 4 * first - 5 * end + 16 * middle, 5 * first - 3 * last + 14 * end - 32 * middle,
            2 * (last - first) - 8 * end + 16 * middle,
        ]  # fmt: skip
        return np.stack(columns, 1)
    return np.stack([first, 3 * end - 2 * first - last, first + last - 2 * end], 1)
