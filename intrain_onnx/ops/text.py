"""TF-IDF features of integer tokens; strings are not supported."""

from __future__ import annotations

import torch
from torch import Tensor

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op


@op("TfIdfVectorizer", 9)
def tf_idf_vectorizer(
    x: Tensor,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: list[int],
    ngram_indexes: list[int],
    pool_int64s: list[int] | None = None,
    pool_strings: list[str] | None = None,
    weights: list[float] | None = None,
) -> Tensor:
    """Counts of a pool's n-grams in each row, with up to ``max_skip_count`` skips, weighted by ``mode``."""
    if pool_int64s is None:
        raise UnsupportedError("TfIdfVectorizer of strings")
    rows = x.reshape(1, -1) if x.dim() < 2 else x
    width = max(ngram_indexes) + 1
    check_elements([rows.shape[0], width])
    counts = rows.new_zeros(rows.shape[0], width, dtype=torch.float32)
    first = 0  # of the n-grams of this length, among all n-grams
    ends = [*ngram_counts[1:], len(pool_int64s)]
    for length, (start, end) in enumerate(zip(ngram_counts, ends, strict=True), 1):
        grams = torch.tensor(pool_int64s[start:end], device=x.device).reshape(-1, length)
        if min_gram_length <= length <= max_gram_length and len(grams):
            places = torch.tensor(ngram_indexes[first : first + len(grams)], device=x.device)
            skips = max_skip_count if length > 1 else 0
            found = sum(_found(rows, grams, step) for step in range(1, skips + 2))
            counts = counts.index_add(1, places, torch.as_tensor(found).to(torch.float32))
        first += len(grams)
    if mode == "IDF":
        counts = counts.clamp(max=1)
    if mode != "TF" and weights is not None:
        scale = torch.ones(width, device=x.device)
        scale[torch.tensor(ngram_indexes)] = torch.tensor(weights, device=x.device)
        counts = counts * scale
    return counts.reshape(width) if x.dim() < 2 else counts


def _found(rows: Tensor, grams: Tensor, step: int) -> Tensor:
    """(rows, tokens) and (grams, length) -> (rows, grams) counts, for tokens ``step`` apart."""
    length = grams.shape[1]
    span = (length - 1) * step + 1
    if rows.shape[1] < span:
        return rows.new_zeros(rows.shape[0], len(grams), dtype=torch.int64)
    windows = rows.unfold(1, span, 1)[..., ::step]
    check_elements([*windows.shape, len(grams)])
    return (windows.unsqueeze(1) == grams.unsqueeze(1)).all(-1).sum(-1)
