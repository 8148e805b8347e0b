"""A trained transformer in a folder, opened: its states, its heads, and its heads as fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from ._rotary import rotary_arguments
from ._sphere import choose, exact_arguments, exact_parts, mean_square, norm_before, plain_arguments
from ._tensors import Contents
from ._text import check_nonzero, check_states, encode
from ._transformer import Array, State, attend, forward, reading
from .heads import ExactSphereHeads, Heads, SphereHeads


@dataclass(frozen=True, eq=False, repr=False)
class Pretrained(Contents):
    r"""Hold a trained transformer: its facts, its hidden states, its heads.

    Made by :func:`load`. Layers are counted from 0. A ``text`` is one sentence, neither padded nor cut off; ``n`` counts
    the special tokens that the model adds ([CLS] and [SEP] in BERT). Wherever a text is asked for, token ids may be
    given instead, ``(n,)`` integers, and where it says so the input of the layer itself, an array ``(n, d)``.

    Attributes:
        folder: where the model was read from.
        kind: the family, as its configuration calls it: "bert", "albert", "gpt2", "llama", ...
        layers: number of layers; of ALBERT as often as they are applied, though they share their weights.
        head_count: number of heads of a layer.
        d: dimension of a token.
        width: dimension ``m`` of a head, mostly ``d / head_count``.
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
    _tokenizer: Any

    def __repr__(self) -> str:
        return f"Pretrained({self.kind}, {self.layers} layers of {self.head_count} heads, d={self.d}, {str(self.folder)!r})"

    @property
    def causal(self) -> bool:
        """Whether a token sees only itself and the tokens before it."""
        return self._network.causal

    @property
    def pre_norm(self) -> bool:
        """Whether attention reads the LayerNorm of the layer's input (GPT-2), rather than a LayerNorm output."""
        return self._network.pre_norm

    def tokens(self, text: str | Sequence[int]) -> list[str]:
        """Split a text into the model's tokens.

        Args:
            text: one sentence, or token ids.

        Returns:
            The ``n`` tokens, with the special ones.

        Raises:
            TypeError: the text is not a string.
            ValueError: the text holds no token, or more than the model has positions.
            WeightsNotFound: the folder has no ``tokenizer.json``.
        """
        return self._encode(text)[1]

    def states(self, text: str | Sequence[int]) -> Array:
        r"""Compute the hidden states: the input of each layer, then the output of the last.

        Post-norm (BERT, ALBERT, RoBERTa, DistilBERT) and pre-norm (all others) layers are

        .. math:: y' = \mathrm{LN}(y + \mathrm{MSA}(y)), \qquad y^+ = \mathrm{LN}(y' + W_2\, \sigma(W_1 y')), \\
                  y' = y + \mathrm{MSA}(\mathrm{LN}(y)), \qquad y^+ = y' + W_2\, \sigma(W_1 \mathrm{LN}(y')).

        The last state of GPT-2 has passed the model's final LayerNorm, as in ``transformers``.

        Args:
            text: one sentence, or token ids.

        Returns:
            ``(layers + 1, n, d)``.

        Raises:
            TypeError, ValueError, WeightsNotFound: as for :meth:`tokens`.
        """
        ids, _ = self._encode(text)
        states = [state.z for state in forward(self._network, ids, self.layers)]
        if self._network.last_norm is not None:
            states[-1] = self._network.last_norm(states[-1]).y
        return np.stack(states)

    def heads(self, layer: int) -> Heads:
        """Take the heads of a layer out of its weights.

        Args:
            layer: index of the layer, ``0 ... layers - 1``.

        Returns:
            The matrices and biases in float64, as copies.

        Raises:
            TypeError: the index is not an integer.
            ValueError: there is no such layer.
        """
        block = self._network.blocks[self._index(layer)]
        shape = (self.head_count, self.width)

        def wide(array: Any, *shape: int) -> Array:
            return np.array(array, dtype=np.float64).reshape(shape)

        def grouped(array: Any, *last: int) -> Array:  # a key, and a value, for every query
            own = wide(array, block.key_heads or self.head_count, self.width, *last)
            return np.repeat(own, self.head_count // len(own), axis=0)

        value_in, inner_bias = grouped(block.value.weight, self.d), grouped(block.value.bias)
        value_out = np.ascontiguousarray(wide(block.output.weight, self.d, *shape).swapaxes(0, 1))
        return Heads(
            query=wide(block.query.weight, *shape, self.d),
            key=grouped(block.key.weight, self.d),
            value_in=value_in,
            value_out=value_out,
            beta=block.scale,
            query_bias=wide(block.query.bias, *shape),
            key_bias=grouped(block.key.bias),
            value_bias=(value_out @ inner_bias[..., None])[..., 0],
            output_bias=wide(block.output.bias, self.d),
            mask="causal" if self.causal else None,
            inner_bias=inner_bias,
            frequencies=None if block.frequencies is None else np.array(block.frequencies),
        )

    def attention_weights(self, text: Any, layer: int) -> Array:
        """Compute the attention probabilities of a layer, as the model does.

        Args:
            text: one sentence, token ids, or the layer's input ``(n, d)``.
            layer: index of the layer.

        Returns:
            ``(heads, n, n)``, rows sum to one.

        Raises:
            TypeError, ValueError: as for :meth:`tokens` and :meth:`heads`.
        """
        return attend(self._network, layer, self._reading(text, layer)[1].z)[0]

    def attention_output(self, text: Any, layer: int) -> Array:
        """Compute what the attention block of a layer adds to its input, as the model does.

        Args:
            text: one sentence, token ids, or the layer's input ``(n, d)``, which GPT-2 normalises first.
            layer: index of the layer.

        Returns:
            ``(n, d)``, the heads joined, times the output matrix, plus its bias.

        Raises:
            TypeError, ValueError: as for :meth:`tokens` and :meth:`heads`.
        """
        return attend(self._network, layer, self._reading(text, layer)[1].z)[1]

    def on_sphere(self, text: Any, layer: int) -> SphereHeads:
        r"""Put a layer on the sphere in the plain form: its matrices, no biases.

        The layer's attention reads :math:`y_i = |y_i| x_i`, so its scores without biases are
        :math:`|y_i| |y_j| / \sqrt{m}\, \langle Q x_i, K x_j \rangle`. The mean square of the lengths goes
        into one :math:`\beta = \operatorname{mean}_i |y_i|^2 / \sqrt{m}`. ``query``, ``key``, ``value``,
        ``beta`` and ``mask`` are what :class:`SelfAttention` takes; :meth:`field` hands them over. Where queries
        and keys turn with the position (Llama, Qwen, Mistral, ModernBERT), these are the matrices before the
        turn, without the norms of Qwen 3 and without windows; :meth:`field` has turns and windows.

        Args:
            text: one sentence, token ids, or the layer's input ``(n, d)``.
            layer: index of the layer.

        Returns:
            Tokens, matrices and ``beta``.

        Raises:
            TypeError, ValueError: as for :meth:`tokens` and :meth:`heads`.

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
        heads = self.heads(layer)
        tokens, state = self._reading(text, layer)
        norms = np.linalg.norm(state.z, axis=-1)
        check_nonzero(norms, tokens, layer)
        return SphereHeads(
            x=state.z / norms[:, None],
            query=heads.query,
            key=heads.key,
            value=heads.value,
            beta=float(np.mean(norms**2)) * heads.beta,
            norms=norms,
            tokens=tuple(tokens),
            layer=index(layer),
            mask=heads.mask,
        )

    def exact_on_sphere(self, text: str | Sequence[int], layer: int) -> ExactSphereHeads:
        r"""Put a layer on the sphere in the exact form: the model's own attention, biases included.

        Attention reads a LayerNorm output,

        .. math:: y_i = \sqrt{d}\, s_i\, G x_i + b, \quad G = \mathrm{diag}(g), \quad
                  |x_i| = 1, \quad x_i \perp 1,

        in a post-norm model that of the LayerNorm which ends the layer before (for layer 0 the one after the
        embedding), in GPT-2 that of the layer's own first LayerNorm. Put into the scores and the values, the key bias
        drops out of the softmax, and what is left is a field on the keys and a constant drift:

        .. math:: r_h = (W_K G)^\top (W_Q b + b_Q) / \sqrt{d}, \qquad
                  c = \sum_h (V_h b + W_O b_V) + b_O .

        Layer 0 of ALBERT has no exact form: between the LayerNorm of its embedding and the attention stands
        another matrix.

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
            text: one sentence, or token ids.
            layer: index of the layer.

        Returns:
            Tokens, matrices, ``beta``, ``key_field`` and ``drift``.

        Raises:
            TypeError, ValueError: as for :meth:`tokens` and :meth:`heads`.

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
        heads, norm = self.heads(layer), norm_before(self._network, index(layer))
        if heads.frequencies is not None:
            raise ValueError(
                "layer: queries and keys of this model turn with the position, so that no one pair of matrices is its "
                "exact form: field(layer, face, text, exact=True) has it"
            )
        parts = exact_parts(heads, norm)
        tokens, x, shrink = self._directions(text, layer, norm.eps)
        return ExactSphereHeads(
            x=x,
            **parts,
            shrink=shrink,
            gain=norm.gain.copy(),
            bias=norm.bias.copy(),
            tokens=tuple(tokens),
            layer=index(layer),
        )

    def exact_tokens(self, text: str | Sequence[int], layer: int) -> Array:
        r"""Return the unit tokens from which the exact form of a layer starts, rotary positions or not.

        What the norm before attention reads, centred if it is a LayerNorm, in unit length:
        :math:`x_i = C z_i / |C z_i|`, or :math:`z_i / |z_i|` for RMSNorm. Attention reads
        :math:`\sqrt{d}\, s_i\, G x_i + b`, ``s`` as in :meth:`exact_on_sphere`.

        Args:
            text: one sentence, or token ids.
            layer: index of the layer.

        Returns:
            ``(n, d)``.

        Raises:
            TypeError, ValueError: as for :meth:`tokens` and :meth:`heads`.
        """
        self._index(layer)
        return self._directions(text, layer, norm_before(self._network, index(layer)).eps)[1]

    def field(
        self, layer: int, face: Any, text: Any = None, *, head: int | Sequence[int] | None = None, exact: bool = False
    ) -> Any:
        r"""Make the attention of a layer, all heads or some, a field on the sphere.

        Start it from ``on_sphere(text, layer).x``, or the exact form from ``exact_tokens(text, layer)``.

        Args:
            layer: index of the layer.
            face: ``ctsa.torch`` or ``ctsa.jax``, whose ``SelfAttention`` is made.
            text: the plain form takes its ``beta`` from the lengths of this text's tokens (or of the layer's input
                ``(n, d)``). Without a text it takes :math:`|g|^2 + |b|^2` for their mean square, the value for
                tokens that are spread evenly before the gain ``g`` and bias ``b`` of the LayerNorm; those of sentences
                are shorter, in all-MiniLM-L6-v2 by a fifth to a half. The exact form needs no text.
            head: index of one head, several of them, or None for all.
            exact: False for the plain form of :meth:`on_sphere`. True for the exact form of
                :meth:`exact_on_sphere`, the ``key_field`` and the drift as an ``Injection`` included, with ``value`` and
                drift centred as the next LayerNorm does, so that tokens stay orthogonal to the all-ones vector.
                The output bias, which belongs to no head, comes in only with all heads.

        Returns:
            A ``SelfAttention``, or in the exact form ``SelfAttention + Injection``; causal for GPT-2. Where queries and
            keys turn with the position (Llama, Qwen 2, Mistral, ModernBERT) a ``MultiHeadAttention`` for the tokens of
            this text, in the exact form for unit tokens in the direction of the layer's input (centred for LayerNorm).

        Raises:
            TypeError: ``face`` has no ``SelfAttention``, or an index is not an integer.
            ValueError: there is no such layer or head.
            ValueError: as for :meth:`on_sphere`; or layer 0 of ALBERT was asked for in the exact form.

        Example:
            >>> import ctsa.torch
            >>> from ctsa import pretrained
            >>> model = pretrained.load()
            >>> field = model.field(5, ctsa.torch, "Tokens cluster.", head=3)
            >>> x0 = model.on_sphere("Tokens cluster.", layer=5).x
            >>> tuple(ctsa.integrate(field, x0, [0.0, 1.0]).xs.shape)
            (2, 6, 384)
        """
        if not callable(getattr(face, "SelfAttention", None)):
            raise TypeError(f"face must be ctsa.torch or ctsa.jax, got {face!r:.60}")
        heads, chosen = self.heads(layer), choose(head, self.head_count)
        if heads.frequencies is not None:
            return self._rotary_field(layer, face, text, heads, chosen, exact)
        if exact:
            norm = norm_before(self._network, index(layer))
            attention, drift = exact_arguments(heads, norm, chosen)
            return face.SelfAttention(**attention) + face.Injection(drift)
        if text is None:
            square = mean_square(self._network, index(layer))
        else:
            square = float(np.mean(self.on_sphere(text, layer).norms ** 2))
        return face.SelfAttention(**plain_arguments(heads, square, chosen))

    def _rotary_field(self, layer: int, face: Any, text: Any, heads: Heads, chosen: Any, exact: bool) -> Any:
        if text is None:
            raise ValueError("text: attention of this model depends on positions, so pass the text that the field is for")
        n = len(self._reading(text, layer)[1].z)
        norm = norm_before(self._network, index(layer)) if exact else None
        square = None if exact else float(np.mean(self.on_sphere(text, layer).norms ** 2))
        return face.MultiHeadAttention(**rotary_arguments(self._network, index(layer), heads, chosen, n, square, norm))

    # ------------------------------------------------------------------------------------------------------ inside
    def _directions(self, text: Any, layer: int, eps: float) -> tuple[list[str], Array, Array]:
        """Return the tokens, their directions before gain and bias of the norm, and how far its eps shrinks them."""
        tokens, state = self._reading(self._encode(text)[0], layer)
        assert state.normed is not None  # as the norm before is known
        length = np.linalg.norm(state.normed.centred, axis=-1)
        check_nonzero(length, tokens, layer)
        return tokens, state.normed.centred / length[:, None], 1.0 / np.sqrt(1.0 + eps / state.normed.variance[:, 0])

    def _encode(self, text: Any) -> tuple[list[int], list[str]]:
        return encode(text, self._tokenizer, self.positions, len(self._network.embedding.words), self.folder)

    def _index(self, layer: int) -> int:
        if isinstance(layer, (bool, np.bool_)) or not hasattr(layer, "__index__"):
            raise TypeError(f"layer must be an integer, got {layer!r}")
        if not 0 <= index(layer) < self.layers:
            raise ValueError(f"layer must be one of 0 ... {self.layers - 1}, got {layer}")
        return index(layer)

    def _state(self, text: Any, layer: int) -> tuple[list[str], State]:
        """Return the tokens and the input of a layer, computed from a text or given."""
        layer = self._index(layer)
        if getattr(text, "ndim", 0) == 2:
            z = check_states(text, self.d)
            return [str(i) for i in range(len(z))], State(z, None)
        ids, tokens = self._encode(text)
        *_, state = forward(self._network, ids, layer)
        return tokens, state

    def _reading(self, text: Any, layer: int) -> tuple[list[str], State]:
        """Return the tokens and what the attention of a layer reads."""
        tokens, state = self._state(text, layer)
        return tokens, reading(self._network, index(layer), state)
