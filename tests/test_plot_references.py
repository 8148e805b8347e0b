"""The main pictures look as they did."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.testing.compare import compare_images
from pictures import PICTURES, REFERENCES, save
from PIL import Image

TOLERANCE, OVER = (
    4.0,
    4,
)  # rms of 255, of means over 4 by 4 pixels: another font stays below it, what is missing does not


@pytest.fixture(autouse=True)
def _close_figures():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


def needs(name):
    if name.startswith("sweep"):
        pytest.importorskip("xarray")


def compared(name, folder):
    """Return None, or how far a picture is from its reference, with a picture of the differences in ``folder``."""
    save(name, folder / "now.png")
    for path, target in (folder / "now.png", "now"), (REFERENCES / f"{name}.png", "then"):
        image = Image.open(path).convert("RGB")
        image.reduce(OVER).save(folder / f"{target}-{name}.png")
    return compare_images(str(folder / f"then-{name}.png"), str(folder / f"now-{name}.png"), TOLERANCE)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_they_did(name, tmp_path):
    needs(name)
    assert compared(name, tmp_path) is None


@pytest.mark.parametrize("kept", [True, False])
def test_the_tolerance_tells_a_font_from_a_fault(kept, tmp_path, monkeypatch):
    if kept:
        monkeypatch.setattr(plt, "subplots", other_font(plt.subplots))
    else:
        draw = PICTURES["spectrum"]
        monkeypatch.setitem(PICTURES, "spectrum", lambda: without_marks(draw()))
    assert (compared("spectrum", tmp_path) is None) is kept


def other_font(subplots):
    """Return ``subplots`` with serifs; ``figure_of`` puts the setting back."""

    def made(*args, **options):
        mpl.rcParams["font.family"] = "DejaVu Serif"
        return subplots(*args, **options)

    return made


def without_marks(ax):
    for line in ax.lines:
        line.set_visible(False)
    return ax


def test_references_are_small():
    sizes = {path.name: path.stat().st_size for path in REFERENCES.glob("*.png")}
    assert set(sizes) == {f"{name}.png" for name in PICTURES}
    assert max(sizes.values()) < 15_000, sizes
