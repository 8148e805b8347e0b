"""Several devices: what ``on_devices`` checks on eight that are made of one processor; and where PyTorch puts things."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling import sample

import ctsa


@pytest.mark.parametrize("thorough", sample([False, True], lambda thorough: not thorough))
def test_several_devices(thorough):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    script = Path(__file__).with_name("on_devices.py")
    command = [sys.executable, script, *["--thorough"] * thorough]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "all is well" in done.stdout, done.stderr[-4000:]


def test_the_ring_is_for_jax(torch_face, jax_face):
    with pytest.raises(ValueError, match="how='ring' is for JAX.*use how='chunked' on torch"):
        torch_face.SelfAttention(how="ring")
    for weights in ("hardmax", "sinkhorn"):
        with pytest.raises(
            ValueError, match=f"how='ring' needs weights that are sums over keys, but weights='{weights}'"
        ):
            jax_face.SelfAttention(weights=weights, how="ring")
    with pytest.raises(ValueError, match="how='ring' does not know masses: use how='chunked'"):
        jax_face.SelfAttention(masses=[1.0, 2.0], how="ring")


def test_numpy_goes_where_the_parameters_are(torch_face):
    """The device "meta" has no values, but says what would lie where."""
    field = torch_face.SelfAttention(value=np.diag([3.0, 2.0, 1.0])).to("meta")
    x = ctsa.random_tokens(4, 3, seed=0)
    assert field.drift(0.0, torch.as_tensor(x).to("meta")).device.type == "meta"
    assert ctsa.checks.given(x, field).device.type == "meta"


def test_states_stay_on_the_device_of_the_field(torch_face, close):
    field = torch_face.SelfAttention(value=np.diag([3.0, 2.0, 1.0])).to("cpu")
    x = ctsa.random_tokens(4, 3, seed=0)
    one, other = (ctsa.integrate(field, a, [0.0, 1.0]).xs for a in (x, torch.as_tensor(x)))
    assert one.device == other.device == field.value.device
    close(one, other, 0)
