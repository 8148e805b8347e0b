"""Where tokens stand: blocks of two by two that turn queries, keys, values and outputs of each token."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, backend

Array = Any
LAYOUTS = ("interleaved", "halves")


@dataclass(frozen=True, eq=False, repr=False)
class Positions:
    """Position-dependent maps of queries, keys, values and outputs, in planes of two components.

    Token i has ``q_i = T_i Q x_i``, ``k_i = T_i' K x_i``, ``v_i = T_i'' V x_i`` and the output ``O T_i''' sum_j a_ij v_j``.
    Each T is made of blocks of 2 x 2, ``(n, planes, 2, 2)`` or ``(heads, n, planes, 2, 2)``; None is the identity. Where
    there are fewer planes than pairs of components, the last components stay as they are.

    ``Positions.rotary`` makes rotary embeddings, ``Positions.rotations`` the learnt rotations of AKOrN's Sudoku model.

    Args:
        query, key, value, output: the blocks.
        layout: which components a plane has: "interleaved" ``(0, 1), (2, 3), ...``, or "halves" ``(0, p), (1, p + 1), ...``
            with p planes.

    Example:
        >>> from ctsa.attention import Positions
        >>> Positions.rotary(n=6, m=8).query.shape
        (6, 4, 2, 2)
    """

    query: Array = None
    key: Array = None
    value: Array = None
    output: Array = None
    layout: str = "interleaved"

    def __post_init__(self) -> None:
        checks.choice("layout", self.layout, LAYOUTS)
        sizes = set()
        for name in ("query", "key", "value", "output"):
            a = checks.parameter(f"positions.{name}", getattr(self, name), 4, 5)
            if a is not None and tuple(a.shape[-2:]) != (2, 2):
                raise ValueError(f"positions.{name} must be blocks (..., n, planes, 2, 2), got shape {tuple(a.shape)}")
            sizes |= set() if a is None else {int(a.shape[-4])}
            object.__setattr__(self, name, a)
        if len(sizes) > 1:
            raise ValueError(f"positions must be those of the same number of tokens, got {sorted(sizes)}")

    def __repr__(self) -> str:
        shapes = [f"{name} {tuple(a.shape)}" for name, a in self.arrays.items() if a is not None]
        return f"Positions({', '.join([*shapes, self.layout])})"

    @property
    def arrays(self) -> dict[str, Array]:
        """The blocks by name."""
        return {name: getattr(self, name) for name in ("query", "key", "value", "output")}

    @classmethod
    def rotary(
        cls,
        n: int,
        m: int,
        *,
        base: float = 10_000.0,
        planes: int | None = None,
        frequencies: Any = None,
        first: int = 0,
        layout: str = "halves",
    ) -> "Positions":
        """Return rotary embeddings: queries and keys of token i turn by the angles ``(first + i) theta_k``.

        Scores then depend on positions by ``j - i`` alone. ``theta_k = base^(-2 k / (2 planes))``.

        Args:
            n: number of tokens.
            m: width of a head.
            base: of the frequencies.
            planes: how many planes turn, at most ``m / 2``; None for all.
            frequencies: ``(planes,)`` in place of ``base``, where they are scaled.
            first: position of the first token.
            layout: "halves" (Llama and its kin) or "interleaved" (as in the paper).

        References:
            Su et al., *RoFormer*, arXiv 2104.09864.
        """
        n, m = checks.integer("n", n, low=1), checks.integer("m", m, low=2)
        planes = m // 2 if planes is None else checks.integer("planes", planes, low=1)
        if 2 * planes > m:
            raise ValueError(f"planes={planes} have more than the m={m} components of a head")
        if frequencies is None:
            base = checks.number("base", base, low=0.0, strict=True)
            frequencies = base ** (-np.arange(planes) / planes)
        theta = checks.numbers("frequencies", frequencies)
        if theta.shape != (planes,):
            raise ValueError(f"frequencies must have shape ({planes},), one a plane, got {theta.shape}")
        turn = rotation_blocks((checks.integer("first", first) + np.arange(n))[:, None] * theta)
        return cls(turn, turn, layout=layout)

    @classmethod
    def rotations(cls, angles: Any, *, values: bool = True, layout: str = "interleaved") -> "Positions":
        """Return rotations by given angles of queries, keys and, with ``values``, values, whose outputs are turned back.

        Args:
            angles: ``(n, planes)`` or ``(heads, n, planes)``. Gradients pass through.
            values: whether values turn, too, and outputs back.
            layout: of the planes.

        References:
            Miyato et al., *GTA*, arXiv 2310.10375, and AKOrN, arXiv 2410.13821.
        """
        angles = checks.parameter("angles", angles, 2, 3)
        if angles is None:
            raise TypeError("angles must be an array (n, planes), got None")
        angles = angles if autodiff(angles) else np.asarray(angles, dtype=float)
        turn = rotation_blocks(angles)
        back = turn.mT if values else None
        return cls(turn, turn, turn if values else None, back, layout)


def rotation_blocks(angles: Array) -> Array:
    """Return rotations by angles ``(...)``: ``(..., 2, 2)``."""
    xp = backend(angles).xp if autodiff(angles) else np
    c, s = xp.cos(angles), xp.sin(angles)
    return xp.stack([xp.stack([c, -s], -1), xp.stack([s, c], -1)], -2)


def turned(blocks: Array | None, z: Array, halves: bool) -> Array:
    """Return ``T_i z_i`` for rows ``(..., n, m)``, with blocks that broadcast against ``(..., n, planes, 2, 2)``."""
    if blocks is None:
        return z
    xp, planes, m = backend(z).xp, blocks.shape[-3], z.shape[-1]
    first, rest = z[..., : 2 * planes], z[..., 2 * planes :]
    if halves:
        a, b = first[..., :planes], first[..., planes:]
    else:
        a, b = first[..., 0::2], first[..., 1::2]
    c = blocks[..., 0, 0] * a + blocks[..., 0, 1] * b
    d = blocks[..., 1, 0] * a + blocks[..., 1, 1] * b
    y = xp.concatenate([c, d], -1) if halves else xp.stack([c, d], -1).reshape(*c.shape[:-1], 2 * planes)
    return y if m == 2 * planes else xp.concatenate([y, rest + 0 * y[..., :1]], -1)
