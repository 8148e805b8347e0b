"""Many paths and marks on the two-sphere as few artists: what faces the viewer in full, at every drawing."""

from typing import Any

import numpy as np
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Path3DCollection


def toward(elev: float, azim: float) -> np.ndarray:
    """Return the unit vector to a viewer at these angles, in degrees."""
    e, a = np.radians([elev, azim])
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


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
