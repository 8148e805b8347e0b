"""Look at an installed ctsa from outside of any checkout: imports, data, extras, the closed forms."""

import sys
from importlib.metadata import entry_points, metadata
from importlib.resources import files

import ctsa

DATA = ("py.typed", "plot/house.mplstyle", "reports/assets", "studies/configs")
HEAVY = {"torch", "jax", "matplotlib", "plotly", "dask", "xarray"}
EXTRAS = {"torch", "jax", "pretrained", "xarray", "datasets", "film", "training", "runs", "all", "docs", "dev"}

assert "site-packages" in ctsa.__file__, ctsa.__file__
assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)
about = metadata("ctsa")
assert about["Version"] == ctsa.__version__, (about["Version"], ctsa.__version__)
assert EXTRAS <= set(about.get_all("Provides-Extra")), about.get_all("Provides-Extra")
for name in DATA:
    assert files("ctsa").joinpath(name).exists() or files("ctsa").joinpath(name).is_dir(), name
assert [point.value for point in entry_points(group="console_scripts", name="ctsa")] == ["ctsa.cli:main"]
assert len(ctsa.theory.consensus_spectrum([[2.0, 0.0], [0.0, 1.0]], 0, 3)) == 3
assert ctsa.random_tokens(4, 3, seed=0).shape == (4, 3)
import ctsa.plot  # noqa: E402  (matplotlib comes only now)

print(f"ctsa {ctsa.__version__} is installed and whole")
