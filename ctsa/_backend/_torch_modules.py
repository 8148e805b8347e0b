"""PyTorch: what is asked about modules."""

import torch

from ._torch_attention import compiling

__all__ = ["named_parameters", "numbers", "reference", "restless", "traced", "with_number"]


def tensors(field):
    """Return parameters, buffers and computed attributes of a field; none of what is no module."""
    if not isinstance(field, torch.nn.Module):
        return []
    computed = [getattr(m, name) for m in field.modules() for name in getattr(m, "computed", ())]
    return [*field.parameters(), *field.buffers(), *computed]


def reference(field):
    """Return the first floating parameter or buffer of a field, or None."""
    return next((a for a in tensors(field) if a.is_floating_point()), None)


def traced(thing):
    """Tell whether values of an array, or of what a module is made of, are not known yet."""
    parts = [thing] if isinstance(thing, torch.Tensor) else tensors(thing)
    return compiling() or any(torch._C._functorch.is_functorch_wrapped_tensor(a) for a in parts)


def restless(module, noise=True):
    """Say why every call of a module is another map, as it is in training mode; None if it is not.

    ``noise=False`` leaves out what draws random numbers, for each member of a batch by itself.
    """
    for name, part in module.named_modules() if isinstance(module, torch.nn.Module) else ():
        name = name or type(part).__name__
        drops = isinstance(part, torch.nn.modules.dropout._DropoutNd)
        rate = part.p if drops else part.dropout if isinstance(part, torch.nn.MultiheadAttention) else 0.0
        if noise and part.training and rate > 0:
            return f"draws random numbers ({name})"
        if part.training and isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            return f"normalises by the batch, and remembers ({name})"
    return None


def named_parameters(module):
    """Return name and value of everything trainable in a module, at any depth."""
    return list(module.named_parameters())


def numbers(module):
    """Return the parameters and buffers of a module that are single floating numbers, by name."""
    if not isinstance(module, torch.nn.Module):
        return {}
    every = (*module.named_parameters(), *module.named_buffers())
    return {name: a.detach().reshape(()) for name, a in every if a.numel() == 1 and a.is_floating_point()}


def with_number(module, name, value):
    """Return the module as a function, with another value of one of its ``numbers``."""
    shape = dict((*module.named_parameters(), *module.named_buffers()))[name].shape

    def call(*args):
        return torch.func.functional_call(module, {name: value.reshape(shape)}, args)

    return call
