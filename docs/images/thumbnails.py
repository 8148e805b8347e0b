"""Draw the thumbnails of the gallery: `python docs/images/thumbnails.py`, or with names of some studies.

Quick presets of figures, which take seconds each; experiments train models and are drawn only if they are named.
"""

import sys
import tempfile
from pathlib import Path

import jax
from PIL import Image

from ctsa.studies import reproduce
from ctsa.studies.names import FIGURES

HERE = Path(__file__).resolve().parent / "reproduce"
SIZE = (480, 270)  # pixels, of which a card shows about half on a screen of ordinary density


def main() -> None:
    """Run the studies and shrink their pictures onto cards of one size."""
    jax.config.update("jax_enable_x64", True)
    HERE.mkdir(exist_ok=True)
    for name in sys.argv[1:] or FIGURES:
        with tempfile.TemporaryDirectory() as folder:
            reproduce(name, folder, backend="jax", say=lambda line: None)
            with Image.open(Path(folder) / f"{name}.png") as picture:
                picture = picture.convert("RGB")
                picture.thumbnail(SIZE, Image.Resampling.LANCZOS)
                card = Image.new("RGB", SIZE, "white")
                card.paste(picture, ((SIZE[0] - picture.width) // 2, (SIZE[1] - picture.height) // 2))
                card.quantize(64).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
