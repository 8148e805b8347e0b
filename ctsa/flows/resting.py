"""Whether a state stays where it is, by the linear flow around it."""

import numpy as np


def drift_within(jacobian: np.ndarray, velocity: np.ndarray, duration: float, noise: float) -> float:
    """Bound how far a state moves within a duration, where the flow is linear: ``|sum_k c_k w_k (e^(l_k t) - 1) / l_k|``.

    With eigenvalues ``l_k`` and eigenvectors ``w_k`` of the Jacobian and the velocity ``sum_k c_k w_k``. Modes that decay
    have come to their end, others move or grow. A coefficient within the noise is 0, unless its mode would grow by then.

    Args:
        jacobian: ``(m, m)``, in coordinates of the tangent space.
        velocity: ``(m,)``, in the same.
        duration: how long.
        noise: size of a velocity that is rounding.

    Returns:
        The bound of any coordinate; inf where there is none.
    """
    values, modes = np.linalg.eig(jacobian)
    try:
        share = np.abs(np.linalg.solve(modes, velocity.astype(complex)))
    except np.linalg.LinAlgError:
        return np.inf
    rate = np.abs(values)
    grows = values.real > 0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        ended = np.minimum(2 / np.where(rate > 0, rate, np.finfo(float).tiny), duration)
        reach = np.where(grows, np.expm1(values.real * duration) / np.where(grows, values.real, 1.0), ended)
        share = np.where((share <= noise) & (values.real * duration < 1), 0.0, share)
        way = np.abs(modes) @ np.where(share > 0, share * reach, 0.0)
    return float(way.max(initial=0.0)) if np.isfinite(way).all() else np.inf
