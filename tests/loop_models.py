"""Loop models in the manner of published ones, tiny, as their authors would write them: steps that know nothing of ctsa."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return self.gain * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Attention(nn.Module):
    """Fused attention with a view of its output, as many code bases have it."""

    def __init__(self, d, heads, causal=False):
        super().__init__()
        self.inside, self.out, self.heads, self.causal = nn.Linear(d, 3 * d), nn.Linear(d, d), heads, causal

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = (t.view(b, n, self.heads, d // self.heads).transpose(1, 2) for t in self.inside(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(b, n, d))


def mlp(d):
    return nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))


class Sandwich(nn.Module):
    """Huginn: an adapter of state and embedding, then a block with norms before and after (arXiv 2502.05171)."""

    def __init__(self, d=16, heads=2):
        super().__init__()
        self.adapter, self.attention, self.mlp = nn.Linear(2 * d, d), Attention(d, heads, causal=True), mlp(d)
        self.norms = nn.ModuleList(RMSNorm(d) for _ in range(4))

    def forward(self, state, inputs):
        x = self.adapter(torch.cat([state, inputs], -1))
        x = self.norms[1](self.attention(self.norms[0](x)) + x)
        return self.norms[3](self.mlp(self.norms[2](x)) + x)


class TwoStates(nn.Module):
    """TRM: a fast state refined several times within a step of a slow one (arXiv 2510.04871)."""

    def __init__(self, d=16, heads=2, inner=3):
        super().__init__()
        self.attention, self.mlp, self.inner = Attention(d, heads), mlp(d), inner
        self.norms = nn.ModuleList(RMSNorm(d) for _ in range(2))

    def block(self, x):
        x = self.norms[0](x + self.attention(x))
        return self.norms[1](x + self.mlp(x))

    def forward(self, state, inputs):
        high, low = state["z_H"], state["z_L"]
        for _ in range(self.inner):
            low = self.block(low + high + inputs)
        return {"z_H": self.block(high + low), "z_L": low}


class DiagonalInjection(nn.Module):
    """A decay of the state, "stable by construction", beside a block; every loop knows its number."""

    def __init__(self, d=16, heads=2, loops=64):
        super().__init__()
        self.decay, self.inject = nn.Parameter(torch.zeros(d)), nn.Linear(d, d)
        self.attention, self.norm, self.index = Attention(d, heads), RMSNorm(d), nn.Embedding(loops, d)
        with torch.no_grad():
            self.index.weight.mul_(0.1)

    def forward(self, state, inputs, k):
        a = torch.exp(-torch.exp(self.decay))
        block = self.attention(self.norm(state + inputs)) + self.index.weight[k]
        return a * state + self.inject(inputs) + block


class Regularised(nn.Module):
    """STARS: a sandwich block of LayerNorms without injection."""

    def __init__(self, d=16, heads=2):
        super().__init__()
        self.attention, self.mlp = Attention(d, heads, causal=True), mlp(d)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(4))

    def forward(self, x):
        x = x + self.norms[1](self.attention(self.norms[0](x)))
        return self.norms[3](x + self.mlp(self.norms[2](x)))


def seeded(kind, seed=0, dtype=torch.float64, **options):
    """A model of a kind with its own random weights."""
    torch.manual_seed(seed)
    return kind(**options).to(dtype).eval()
