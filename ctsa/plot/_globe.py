"""Many paths and marks on the two-sphere as few artists: what faces the viewer in full, at every drawing."""

from typing import Any

import numpy as np
from matplotlib import colors
from mpl_toolkits.mplot3d.art3d import Line3D, Line3DCollection, Path3DCollection

from ._style import SURFACE


def toward(elev: float, azim: float) -> np.ndarray:
    """Return the unit vector to a viewer at these angles, in degrees."""
    e, a = np.radians([elev, azim])
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


def facing(x: np.ndarray) -> tuple[float, float]:
    """Return elevation and azimuth from which most of the tokens (n, 3) are in sight, in degrees."""
    x, y, z = np.nan_to_num(x).mean(0)
    if np.hypot(x, y) <= 0.1:
        return 30.0, -60.0
    # A little from the side, as clusters in the middle look flat.
    return 15 + float(np.clip(60 * z, -25, 25)), float(np.degrees(np.arctan2(y, x))) + 25


def _sphere() -> np.ndarray:
    lon, lat = np.meshgrid(np.linspace(0, 2 * np.pi, 121), np.linspace(-np.pi / 2, np.pi / 2, 61))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])  # (3, 61, 121)


def graticule() -> list[np.ndarray]:
    """Return circles of latitude and longitude every 30 degrees, as points (m, 3)."""
    xyz = _sphere()
    return [*xyz[:, 10:51:10].transpose(1, 2, 0), *xyz[:, :, :-1:10].transpose(2, 1, 0)]


def _grey(xyz: np.ndarray, elev: float, azim: float) -> np.ndarray:
    """Return the grey of points (3, ...) of the sphere in the light of a viewer at these angles, shape (..., 1)."""
    light = np.tensordot(toward(elev + 35, azim - 35), xyz, 1)[..., None]
    return np.clip(SURFACE - 0.035 + 0.07 * np.clip(light, -0.5, 1), 0, 1)


def shade(look: np.ndarray, elev: float, azim: float, pixels: int = 400) -> np.ndarray:
    """Return the lit disc that a globe is from afar, RGBA; the columns of ``look`` point right, up, and to the viewer."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, pixels + 1)[:-1] + 1 / pixels] * 2)
    z = np.sqrt(np.maximum(1 - x**2 - y**2, 0))
    grey = _grey(np.tensordot(look, np.stack([x, y, z]), 1), elev, azim)
    return np.concatenate([np.repeat(grey, 3, -1), (x**2 + y**2 < 1)[..., None]], -1)


class ViewPaths(Line3DCollection):
    """Paths ``(n, T, 3)``, shown where they face the viewer."""

    def __init__(self, paths: np.ndarray, **style: Any) -> None:
        super().__init__(paths, **style)
        self._whole = paths

    def do_3d_projection(self) -> float:
        """Hide the far side, then project."""
        near = self._whole @ toward(self.axes.elev, self.axes.azim) >= 0
        self._segments3d = np.where(near[..., None], self._whole, np.nan)
        super().do_3d_projection()
        return 0.0


class ViewMarks(Path3DCollection):
    """What ``Axes3D.scatter`` draws at unit vectors, shown where these face the viewer."""

    _whole: np.ndarray

    def do_3d_projection(self) -> float:
        """Hide the far side, then project."""
        near = self._whole @ toward(self.axes.elev, self.axes.azim) >= 0
        self._offsets3d = tuple(np.where(near, self._whole.T, np.nan))
        super().do_3d_projection()
        return 0.0


def draw_paths(ax: Any, paths: np.ndarray, inks: np.ndarray, pale: np.ndarray, width: float, zorder: int) -> None:
    """Draw paths ``(n, T, 3)``, palely and, on top, in full where they face the viewer."""
    style = {"linewidths": width, "capstyle": "round"}
    ax.add_collection3d(Line3DCollection(paths, colors=pale, zorder=zorder, label="_paths", **style), autolim=False)
    near = ViewPaths(paths, colors=inks, zorder=zorder + 10, label="_paths", **style)
    ax.add_collection3d(near, autolim=False)


def draw_marks(ax: Any, places: np.ndarray, faces: tuple, edges: tuple, size: float, width: float, zorder: int) -> None:
    """Draw marks at ``(n, 3)``; colours of faces and edges are given for the far and for the near side."""
    for near in (False, True):
        marks = ax.scatter(
            *places.T, s=size**2, facecolors=faces[near], edgecolors=edges[near], linewidths=width, depthshade=False,
            zorder=zorder + 10 * near, label="_marks",
        )  # fmt: skip
        if near:
            marks.__class__, marks._whole = ViewMarks, places


class ViewLine(Line3D):
    """Points (m, 3), shown where their anchors face the viewer, at every drawing; or the rim."""

    def __init__(self, points: Any = None, anchors: Any = None, **style: Any) -> None:
        super().__init__([], [], [], **style)
        self._points, self._anchors = points, points if anchors is None else anchors

    def draw(self, renderer: Any) -> None:
        viewer, a = toward(self.axes.elev, self.axes.azim), np.linspace(0, 2 * np.pi, 181)
        if self._points is None:  # the great circle across the line of sight
            shown = np.stack([np.cos(a), np.sin(a)], 1) @ np.linalg.svd(viewer[None])[2][1:]
        else:
            shown = np.where((self._anchors @ viewer >= 0)[:, None], self._points, np.nan)
        self.set_data_3d(*shown.T)
        super().draw(renderer)


def draw_globe(ax: Any) -> None:
    """Draw a faint lit unit sphere with a graticule every 30 degrees, once an Axes."""
    if any(artist.get_gid() == "globe" for artist in ax.collections):
        return
    xyz = _sphere()
    grey = _grey(xyz, ax.elev, ax.azim) * np.ones(3)
    # Opaque and not antialiased, as see-through facets show their seams; the rim hides the ragged edge.
    flat: dict[str, Any] = {"shade": False, "linewidth": 0, "antialiased": False, "rasterized": True}
    ax.plot_surface(*xyz, facecolors=grey, rcount=61, ccount=121, zorder=0, gid="globe", **flat)
    for line in graticule():
        ax.add_line(ViewLine(line, color="0.84", linewidth=0.4, zorder=1))
    ax.add_line(ViewLine(color="0.6", linewidth=0.8, zorder=1))


def paled(colour: Any) -> np.ndarray:
    return 0.3 * colors.to_rgba_array(colour)[..., :3].squeeze() + 0.7 * SURFACE


def both_sides(ax: Any, points: np.ndarray, anchors: np.ndarray, colour: Any, zorder: int, **style: Any) -> None:
    """Draw points (m, 3) palely (see-through adds up), in full and on top where anchors face the viewer."""
    pale = paled(colour)
    for ink, near in (pale, False), (colour, True):
        look = {"color": ink, "markerfacecolor": ink, "markeredgecolor": ink, "zorder": zorder + 10 * near} | style
        ax.add_line(ViewLine(points, anchors, **look) if near else Line3D(*points.T, **look))
