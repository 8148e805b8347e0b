"""PyTorch: a step of an optimiser on a model, and its state as NumPy arrays."""

import contextlib
import copy

import numpy as np
import torch

_OPTIMISERS = {
    "adam": lambda p, decay: torch.optim.Adam(p, 1.0, weight_decay=decay),
    "adamw": lambda p, decay: torch.optim.AdamW(p, 1.0, weight_decay=decay),
    "sgd": lambda p, decay: torch.optim.SGD(p, 1.0, weight_decay=decay),
}


class Trainer:
    """A model with its optimiser; ``objective(model, data, depth, options)`` gives scalars by name, summed to the loss."""

    def __init__(self, model, objective, kind, *, decay=0.0, clip=None, average=0.0, half=False, compiled=False):
        self.model, self.clip, self.rate, self.half = model, clip, average, half
        self.objective = torch.compile(objective) if compiled else objective
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("model has nothing to train: requires_grad is False for all of its parameters")
        self.optimiser = _OPTIMISERS[kind](self.parameters, decay)
        self.average = [p.detach().clone() for p in self.parameters] if average else None
        self.device = self.parameters[0].device

    def _put(self, data):
        return tuple(None if a is None else torch.as_tensor(a, device=self.device) for a in data)

    def step(self, data, depth, rate, options):
        """Move the parameters once; return the terms of the loss and the norm of the gradient, floats."""
        half = torch.autocast(self.device.type, torch.bfloat16) if self.half else contextlib.nullcontext()
        with torch.inference_mode(False), torch.enable_grad():
            with half:
                terms = self.objective(self.model, self._put(data), depth, options)
            self.optimiser.zero_grad(set_to_none=True)
            sum(terms.values()).backward()
        for p in self.parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad  # what takes no part decays, as in JAX
        grads = [p.grad for p in self.parameters]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
        found = {name: value.item() for name, value in terms.items()} | {"gradient": norm.item()}
        if all(np.isfinite(list(found.values()))):
            if self.clip is not None:
                scale = min(1.0, self.clip / (found["gradient"] + 1e-6))
                for g in grads:
                    g.mul_(scale)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            self._follow()
        return found

    @torch.no_grad()
    def _follow(self):
        for mean, p in zip(self.average or (), self.parameters, strict=self.average is not None):
            mean.lerp_(p, 1 - self.rate)

    def averaged(self):
        """Return the model with averaged weights, a copy; the model itself where none are kept."""
        if self.average is None:
            return self.model
        twin = copy.deepcopy(self.model)
        with torch.no_grad():
            for p, mean in zip([p for p in twin.parameters() if p.requires_grad], self.average, strict=True):
                p.copy_(mean)
        return twin

    def arrays(self):
        """Return everything that a later step depends on, by name."""
        found = {f"weights.{i}": p.detach() for i, p in enumerate(self.parameters)}
        found |= {f"average.{i}": p for i, p in enumerate(self.average or ())}
        for i, state in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for k, v in state.items() if v is not None}
        wide = {name: a.float() if a.dtype == torch.bfloat16 else a for name, a in found.items()}  # which NumPy lacks
        return {name: np.array(a.cpu().numpy()) for name, a in wide.items()}

    def trained(self):
        """Return which arrays of the model train."""
        return [name for name, p in self.model.named_parameters() if p.requires_grad]

    def restore(self, arrays):
        """Take up what ``arrays`` returned."""
        with torch.no_grad():
            for i, p in enumerate(self.parameters):
                p.copy_(torch.as_tensor(arrays[f"weights.{i}"]))
            for i, p in enumerate(self.average or ()):
                p.copy_(torch.as_tensor(arrays[f"average.{i}"]))
        state: dict = {}
        for name, a in arrays.items():
            if name.startswith("optimiser."):
                _, i, entry = name.split(".", 2)
                state.setdefault(int(i), {})[entry] = torch.as_tensor(a)
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
