"""Colours of reports, light and dark: the palette of all pictures, as bright as each background needs."""

from functools import cache
from typing import Any

PAPERS = {"light": "#fdfdfb", "dark": "#15181c"}
_ROLES = {
    "light": dict(
        ink="#1f2326", muted="#596067", grid="#e7e8e6", line="#c6c9c8", card="#f5f5f2", accent="#005a8f", mid="#f7f7f5",
        globe="#e6e8ea", globeline="#c4c9ce", low="#2166ac", high="#b2182b",
    ),
    "dark": dict(
        ink="#e4e6e8", muted="#a4acb4", grid="#2a2f35", line="#4a525a", card="#1d2126", accent="#79bdec", mid="#22272d",
        globe="#39414a", globeline="#59636d", low="#4f9fe0", high="#f0705e",
    ),
}  # fmt: skip
_CONTRAST = {"light": 3.0, "dark": 4.5}  # WCAG asks for 3 of lines and marks; thin ones need more on black


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour "#rrggbb", as WCAG defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def visible(colour: str, paper: str, wanted: float) -> str:
    """Return the colour, mixed with white or black until it can be seen on the paper."""
    target = 255 if luminance(paper) < 0.2 else 0
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    for step in range(21):
        mixed = "#" + "".join(f"{round(c + (target - c) * step / 20):02x}" for c in parts)
        if contrast(mixed, paper) >= wanted:
            return mixed
    return mixed


@cache
def _tables() -> tuple[dict[str, dict[str, str]], int]:
    from ctsa.plot._style import NAMED  # brings matplotlib

    tables = {}
    for name, paper in PAPERS.items():
        named = {str(i): visible(c.lower(), paper, _CONTRAST[name]) for i, c in enumerate(NAMED)}
        tables[name] = {"paper": paper, **_ROLES[name], **named}
    return tables, len(NAMED)


def themes() -> dict[str, dict[str, str]]:
    """Return what every name of a colour means, ``{"light": {"ink": "#1f2326", "0": ...}, "dark": ...}``."""
    return _tables()[0]


def colour(i: Any, alpha: float | None = None) -> str:
    """Return the name of the i-th colour of the palette, around if there are more."""
    return f"@{int(i) % _tables()[1]}" + ("" if alpha is None else f"/{alpha:g}")


def css() -> str:
    """Return the roles as variables of CSS, dark where asked for and by the button."""
    roles = {n: "".join(f"--{k}:{v};" for k, v in t.items() if not k.isdigit()) for n, t in themes().items()}
    return (
        f":root{{color-scheme:light;{roles['light']}}}\n"
        f':root[data-theme="dark"]{{color-scheme:dark;{roles["dark"]}}}\n'
        f'@media (prefers-color-scheme:dark){{:root:not([data-theme="light"]){{color-scheme:dark;{roles["dark"]}}}}}\n'
        f"@media print{{:root:root:root{{color-scheme:light;{roles['light']}}}}}\n"
    )


def sequence() -> list[list[Any]]:
    """Return a colour scale for numbers without a middle: viridis, safe for the colour blind."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    return [[i / 8, to_hex(mpl.colormaps["viridis"](i / 8))] for i in range(9)]


DIVERGING = [[0.0, "@low"], [0.5, "@mid"], [1.0, "@high"]]
