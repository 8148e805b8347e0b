"""Shared by all tests: 64-bit JAX on the CPU, one thread, and the two faces side by side.

``CTSA_TEST_DEVICE=cuda`` runs them on a GPU instead, in both frameworks.

    def test_x(face):                       # runs twice, for ctsa.torch and for ctsa.jax
        field = face.SelfAttention(beta=2.0)
        x = face.array(ctsa.random_tokens(5, 3))
        v = face.numpy(field(0.0, x))       # NumPy float64

    def test_y(torch_face, jax_face): ...   # both at once
"""

import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
DEVICE = os.environ.get("CTSA_TEST_DEVICE", "cpu")
os.environ.setdefault("JAX_PLATFORMS", DEVICE if DEVICE == "cpu" else f"{DEVICE},cpu")  # callbacks need a CPU
os.environ.setdefault("MPLBACKEND", "Agg")
# Programs of tests run once, also those of processes that tests start: compiling them is what takes time.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if version("jaxlib").startswith("0.10."):  # XLA ends a process that has flags it does not know
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

# They are kept for the other worker, for processes that tests start, and for the next run (`make clean` forgets them). What
# decides about a program is part of its name: versions, flags, the program itself.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

import ctsa.jax  # noqa: E402
import ctsa.torch  # noqa: E402

torch.set_num_threads(1)


def _readable(plain):
    """Let tests read tensors of a GPU without further ado, but not the library."""

    def read(tensor, *args, **kwargs):
        of_a_test = Path(sys._getframe(1).f_code.co_filename).parent == Path(__file__).parent
        return plain(tensor.cpu() if of_a_test else tensor, *args, **kwargs)

    return read


if DEVICE != "cpu":
    torch.set_default_device(DEVICE)
    for _name in ("numpy", "__array__"):
        setattr(torch.Tensor, _name, _readable(getattr(torch.Tensor, _name)))

settings.register_profile(
    "ctsa",
    deadline=None,
    max_examples=30,
    derandomize=True,  # a suite that passes today passes tomorrow
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("ctsa")


class Face:
    """``ctsa.torch`` or ``ctsa.jax`` (attributes are its classes), with ways into and out of its arrays."""

    def __init__(self, name, module):
        self.name, self.module = name, module

    def __getattr__(self, name):
        return getattr(self.module, name)

    def __repr__(self):
        return f"ctsa.{self.name}"

    def array(self, a, dtype="float64"):
        """Make an array of this framework from NumPy, lists or numbers."""
        a = np.array(a, dtype=dtype)  # a copy: torch must not share memory with the test's arrays
        return torch.as_tensor(a, device=DEVICE) if self.name == "torch" else jax.numpy.asarray(a)

    @staticmethod
    def numpy(x):
        """Return an array of either framework as NumPy."""
        return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


FACES = {"torch": Face("torch", ctsa.torch), "jax": Face("jax", ctsa.jax)}


@pytest.fixture(params=list(FACES))
def face(request):
    """Each face in turn."""
    return FACES[request.param]


@pytest.fixture
def torch_face():
    """The PyTorch face."""
    return FACES["torch"]


@pytest.fixture
def jax_face():
    """The JAX face."""
    return FACES["jax"]


@pytest.fixture
def rng():
    """A NumPy Generator with a fixed seed."""
    return np.random.default_rng(0)


def close(a, b, tol=1e-12):
    """Assert ``max |a - b| <= tol * max(1, max |b|)`` and equal shapes; arrays of any framework."""
    a, b = np.asarray(Face.numpy(a)), np.asarray(Face.numpy(b))
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    error = float(np.abs(a - b).max(initial=0.0))
    scale = max(1.0, float(np.abs(b).max(initial=0.0)))
    assert error <= tol * scale, f"off by {error:.3g} at scale {scale:.3g}, allowed {tol:g} relative"


@pytest.fixture(name="close")
def _close():
    """The assertion ``close(a, b, tol)``."""
    return close


# JAX and PyTorch bring half a million objects that stay: looked through a thousand times, they cost a tenth of the run.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)

_MAPS = Path("/proc/self/maps")
_done = 0


def pytest_runtest_teardown(item):
    """Forget compiled programs before they take too much memory, and the kernel's limit of 65530 maps a process."""
    global _done
    _done += 1
    if _done % 25 == 0 and _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 25_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def numbers_of_its_own(request, monkeypatch):
    """What a test draws from its module's generator does not depend on the tests before it."""
    for name in ("RNG", "rng"):
        if isinstance(getattr(getattr(request.node, "module", None), name, None), np.random.Generator):
            monkeypatch.setattr(request.node.module, name, np.random.default_rng(1))


@pytest.fixture(scope="module")
def made(request, tmp_path_factory):
    """name -> what ``make(name, folder)`` of the module returns, and the folder; each made once."""
    kept = {}

    def get(name):
        if name not in kept:
            folder = tmp_path_factory.mktemp("model")
            kept[name] = request.module.make(name, folder), folder
        return kept[name]

    return get
