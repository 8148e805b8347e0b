"""``ctsa.torch.compiling``: the same runs by programs of ``torch.compile``, and what cannot be one."""

import numpy as np
import pytest
import torch
from sampling import sample
from torch._dynamo.testing import CompileCounter

import ctsa
from ctsa._backend._compiling import asked
from ctsa._backend._torch_compile import compiled
from ctsa.torch import compiling

EUCLIDEAN = ctsa.Euclidean()
QUICK = dict(solver="heun", atol=1e-3)  # few stages: tracing them is what takes time


class Own(torch.nn.Module):
    """Attention as a user writes it, without a closed form of its derivative."""

    def __init__(self, seed=0, d=3, drive=0.0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.a, self.v = (torch.nn.Parameter(torch.as_tensor(rng.normal(size=(d, d)) / d**0.5)) for _ in "av")
        self.drive = drive

    def forward(self, t, x):
        w = torch.softmax(2 * (x @ self.a) @ x.mT, -1) @ (x @ self.v.mT) + self.drive * torch.cos(t)
        return w - (w * x).sum(-1, keepdim=True) * x


class Block(torch.nn.Module):
    """A looped block with PyTorch's fused attention."""

    def __init__(self, d=8, heads=2):
        super().__init__()
        torch.manual_seed(3)
        self.heads, self.qkv, self.out = heads, torch.nn.Linear(d, 3 * d), torch.nn.Linear(d, d)
        self.norm = torch.nn.RMSNorm(d)
        self.double()

    def forward(self, x):
        q, k, v = (a.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for a in self.qkv(x).chunk(3, -1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.norm(x + self.out(y.transpose(-2, -3).flatten(-2)))


def lorenz(t, s):
    x, y, z = s.unbind(-1)
    return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)


def henon(s):
    return torch.stack([1 - 1.4 * s[..., 0] ** 2 + s[..., 1], 0.3 * s[..., 0]], -1)


def tokens(n, d, **options):
    return torch.as_tensor(ctsa.random_tokens(n, d, **options))


def spectrum(system, x, backend=None, **options):
    options = dict(intervals=3, transient=1, progress=False) | options
    if backend is None:
        return ctsa.lyapunov_spectrum(system, x, **options)
    with compiling(backend=backend):
        return ctsa.lyapunov_spectrum(system, x, **options)


# ------------------------------------------------------------------------------------------------------- the same numbers
@pytest.mark.parametrize(
    "options",
    sample([{"solver": "dopri8", "rtol": 1e-6}, QUICK, {"count": 2, "interval": 0.3}], lambda o: "rtol" not in o),
    ids=str,
)
def test_spectra_of_a_module_are_the_same(options, close):
    x = tokens(4, 3)
    close(spectrum(Own(), x, "eager", **options).history, spectrum(Own(), x, **options).history, 1e-9)


def test_spectra_of_a_driven_field_and_of_an_ensemble_are_the_same(close):
    driven = Own(drive=0.3)
    close(
        spectrum(driven, tokens(4, 3), "eager", **QUICK).history,
        spectrum(driven, tokens(4, 3), t0=0.0, **QUICK).history,
        1e-9,
    )
    together = tokens(4, 3, batch=2)
    close(spectrum(Own(), together, "eager", **QUICK).history, spectrum(Own(), together, **QUICK).history, 1e-9)


def test_spectra_of_float32_are_the_same(close):
    field, x = Own().float(), tokens(4, 3).float()
    close(spectrum(field, x, "eager", **QUICK).exponents, spectrum(field, x, **QUICK).exponents, 1e-4)


def test_spectra_of_large_states_of_ours_are_the_same(close):
    field, x = ctsa.torch.SelfAttention(beta=4.0), tokens(140, 3)  # too many numbers for NumPy
    options = dict(intervals=1, transient=0, interval=0.25, **QUICK)
    close(spectrum(field, x, "eager", **options).history, spectrum(field, x, **options).history, 1e-9)


def test_spectra_of_layers_are_the_same(close):
    start = torch.tensor([[0.1, 0.1]], dtype=torch.float64)
    options = dict(geometry=EUCLIDEAN, transient=0)
    plain = spectrum(henon, start, interval=3, **options)
    close(spectrum(henon, start, "eager", interval=3, **options).history, plain.history, 1e-9)


def library():
    torch.manual_seed(4)
    return torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()


@pytest.mark.parametrize("make", [Block, library])
def test_spectra_of_blocks_with_fused_attention_are_the_same(make, close):
    layer, x = make(), torch.randn(5, 8, dtype=torch.float64, generator=torch.manual_seed(1))
    options = dict(geometry=EUCLIDEAN, intervals=2, transient=0, count=3)
    close(spectrum(layer, x, "eager", **options).history, spectrum(layer, x, **options).history, 1e-9)


def test_fixed_steps_and_sequences_of_layers_are_as_they_were(close):
    x, options = tokens(4, 3), dict(solver="rk4", step=0.5)
    close(spectrum(Own(), x, "eager", **options).history, spectrum(Own(), x, **options).history)
    layers = [ctsa.torch.EulerLayer(ctsa.torch.SelfAttention(beta=b), 0.1) for b in np.linspace(1, 2, 7)]
    close(spectrum(layers, x, "eager").history, spectrum(layers, x).history, 0)


def test_covariant_vectors_are_the_same(close):
    options = dict(intervals=6, transient=6, count=3, **QUICK)
    plain = ctsa.covariant_vectors(Own(), tokens(4, 3), **options)
    with compiling(backend="eager"):
        found = ctsa.covariant_vectors(Own(), tokens(4, 3), **options)
    close(found.vectors, plain.vectors, 1e-7)


@pytest.mark.parametrize("options", [{}, {"solver": "dopri8"}, QUICK, {"land": True}], ids=str)
def test_integrate_is_the_same(options, close):
    x, ts = tokens(4, 3, batch=2), np.linspace(0.0, 2.0, 9)
    with torch.no_grad():
        plain = ctsa.integrate(Own(), x, ts, **options)
        with compiling(backend="eager"):
            found = ctsa.integrate(Own(), x, ts, **options)
    close(found.xs, plain.xs)
    assert {k: found.stats[k] for k in ("steps", "rejected", "evaluations")} == {
        k: plain.stats[k] for k in ("steps", "rejected", "evaluations")
    }


def test_integrate_finds_the_same_event(close):
    x = torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64)
    options = dict(until=lambda t, x: x[..., 0, 2] - 30.0, geometry=EUCLIDEAN)
    with torch.no_grad():
        plain = ctsa.integrate(lorenz, x, [0.0, 5.0], **options)
        with compiling(backend="eager"):
            found = ctsa.integrate(lorenz, x, [0.0, 5.0], **options)
    close(found.ts, plain.ts, 1e-10)


def test_gradients_are_not_in_programs(close):
    grads = []
    for backend in (None, "inductor"):
        field = Own()
        if backend is None:
            end = ctsa.integrate(field, tokens(4, 3), [0.0, 1.0]).xs[-1]
        else:
            with compiling(backend=backend):
                end = ctsa.integrate(field, tokens(4, 3), [0.0, 1.0]).xs[-1]
        end.sum().backward()
        grads.append(field.a.grad)
    close(*grads, 0)


def test_gradients_by_the_adjoint_equation_are_not_in_programs_either(close):
    grads = []
    for backend in (None, "inductor"):
        field, options = Own(), dict(adjoint=True)
        if backend is None:
            ctsa.integrate(field, tokens(4, 3), [0.0, 1.0], **options).xs[-1].sum().backward()
        else:
            with compiling(backend=backend):
                ctsa.integrate(field, tokens(4, 3), [0.0, 1.0], **options).xs[-1].sum().backward()
        grads.append(field.a.grad)
    close(*grads, 0)


@pytest.mark.slow
def test_with_a_real_compiler(close):
    x = torch.ones(1, 3, dtype=torch.float64)
    options = dict(geometry=EUCLIDEAN, interval=0.1, count=2, **QUICK)
    close(spectrum(lorenz, x, "inductor", **options).history, spectrum(lorenz, x, **options).history, 1e-9)


# ------------------------------------------------------------------------------------------------------------ compile once
def test_other_parameters_and_starts_compile_nothing():
    counter = CompileCounter()
    spectrum(Own(0), tokens(4, 3), counter, solver="bosh3", atol=1e-3)
    first = counter.frame_count
    assert first == 2  # the step, and the slope where one begins
    spectrum(Own(1), tokens(4, 3, seed=1), counter, solver="bosh3", atol=1e-4, seed=5)
    assert counter.frame_count == first
    spectrum(Own(1, d=2), tokens(4, 2), counter, solver="bosh3", atol=1e-3)
    assert counter.frame_count == 2 * first


def test_many_kinds_do_not_end_in_a_limit():
    counter = CompileCounter()
    with compiling(backend=counter):
        for n in range(12):  # torch.compile gives up after 8 by itself
            assert compiled(torch.add)(torch.ones(n), 1.0).shape == (n,)
    assert counter.frame_count == 12


def test_small_states_of_ours_stay_with_numpy():
    counter = CompileCounter()
    spectrum(ctsa.torch.SelfAttention(beta=4.0), tokens(6, 3), counter)
    assert counter.frame_count == 0


# ------------------------------------------------------------------------------------------------------------ and what not
def test_it_lasts_as_long_as_its_context():
    assert asked() is None
    with compiling():
        with compiling(mode="reduce-overhead"):
            assert asked() == {"mode": "reduce-overhead"}
        assert asked() == {}
    with pytest.raises(KeyError), compiling():
        raise KeyError
    assert asked() is None


def test_jax_takes_no_notice(close):
    field, x = ctsa.jax.Oja(np.diag([2.0, 1.0, 0.5])), ctsa.random_tokens(3, 3)
    close(spectrum(field, x, "no such backend").history, spectrum(field, x).history, 0)


def branching(t, x):
    v = torch.roll(x, 1, -1) if x.sum() > 0 else -x
    return v - (v * x).sum(-1, keepdim=True) * x


def test_a_field_that_branches_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="does not make one program of this field or layer: .*branch.*compiling out"):
        spectrum(branching, tokens(3, 3), "eager")
    with torch.no_grad(), compiling(backend="eager"), pytest.raises(ValueError, match="one program"):
        ctsa.integrate(branching, tokens(3, 3), [0.0, 1.0])


def test_options_are_those_of_torch():
    with pytest.raises(RuntimeError, match="Invalid backend"), compiling(backend="no such backend"):
        ctsa.lyapunov_spectrum(lorenz, torch.ones(1, 3, dtype=torch.float64), geometry=EUCLIDEAN)


def test_options_that_are_ours_are_refused():
    for options in ({"fullgraph": False}, {"dynamic": True}):
        with pytest.raises(ValueError, match="is not an option of compiling.*leave it out"):
            compiling(**options)


def test_hooks_that_come_and_go_are_noticed(close):
    layer, x = torch.nn.Linear(3, 3, dtype=torch.float64), tokens(1, 3)
    options = dict(geometry=EUCLIDEAN, transient=0)
    spectrum(layer, x, "eager", **options)
    hook = layer.register_forward_hook(lambda module, given, y: 0.5 * y)
    close(spectrum(layer, x, "eager", **options).history, spectrum(layer, x, **options).history, 1e-9)
    hook.remove()
    close(spectrum(layer, x, "eager", **options).history, spectrum(layer, x, **options).history, 1e-9)


@pytest.mark.filterwarnings("ignore")
def test_a_layer_that_counts_its_calls_is_refused(monkeypatch):
    monkeypatch.setattr("ctsa._backend._torch_compile._KINDS", 3)
    monkeypatch.setattr("ctsa._backend._torch_compile._PROGRAMS", {})
    calls = [0]

    def counting(s):
        calls[0] += 1
        return henon(s)

    with pytest.raises(ValueError, match="more than 3 programs.*make that number a tensor"):
        spectrum(counting, torch.full((1, 2), 0.1, dtype=torch.float64), "eager", geometry=EUCLIDEAN)


def test_the_reason_is_that_of_the_operation_which_failed():
    def written_to(t, x):
        x = x * 1
        x += torch.sin(x)
        return -x

    with pytest.raises(ValueError, match=r"RuntimeError\('one of the variables .* modified by an inplace operation"):
        spectrum(written_to, tokens(4, 3), "eager", geometry=EUCLIDEAN)


def test_threads_do_not_take_each_other_for_traced(close):
    import threading

    found = {}

    def work(n):
        found[n] = spectrum(Own(), tokens(n, 3), "eager", count=2, **QUICK).history

    threads = [threading.Thread(target=work, args=(n,)) for n in (3, 5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for n in (3, 5):
        close(found[n], spectrum(Own(), tokens(n, 3), count=2, **QUICK).history, 1e-9)


def test_jacobians_in_jax_keep_no_number_of_a_function_of_ones_own(close):
    gain, x, oja = [1.0], ctsa.random_tokens(3, 3), ctsa.jax.Oja(np.eye(3))
    field = oja + (lambda t, x: gain[0] * x**3 if float(t) >= 0 else -x)
    ctsa.jacobian(field, x)
    gain[0] = 2.0
    close(ctsa.jacobian(field, x), ctsa.jacobian(oja + (lambda t, x: 2.0 * x**3), x), 1e-9)
