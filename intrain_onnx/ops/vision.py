"""Sampling grids, regions of interest, boxes and image columns."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import ints


@op("GridSample", 20, 22)
def grid_sample(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    """Interpolate the input at the points of a grid, with coordinates in [-1, 1]."""
    name = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return grid_sample_image(x, grid, align_corners=align_corners, mode=name, padding_mode=padding_mode)


@op("GridSample", 16)
def grid_sample_image(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "bilinear", padding_mode: str = "zeros"
) -> Tensor:
    """GridSample of images, with the older mode names."""
    if x.dim() not in {4, 5} or (x.dim() == 5 and mode == "bicubic"):
        raise UnsupportedError(f"GridSample in mode {mode} of a tensor of rank {x.dim()}")
    return F.grid_sample(x, grid.to(x.dtype), mode, padding_mode, bool(align_corners))


@op("AffineGrid", 20)
def affine_grid(theta: Tensor, size: Tensor, *, align_corners: int = 0) -> Tensor:
    """The grid of an affine map: the source coordinates of each pixel's centre."""
    sizes = ints(size)
    check_elements([sizes[0], *sizes[2:], len(sizes) - 2])
    return F.affine_grid(theta, sizes, bool(align_corners))


@op("RoiAlign", 16, 22)
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """RoIAlign: pool bilinear samples in each bin of a grid over each region of interest."""
    check_elements([rois.shape[0], x.shape[1], output_height, output_width])
    half_pixel = coordinate_transformation_mode == "half_pixel"
    corners = rois * spatial_scale - (0.5 if half_pixel else 0.0)
    regions = [
        _align_region(
            x[index],
            corner,
            (output_height, output_width),
            ratio=sampling_ratio,
            at_least_one=not half_pixel,
            mode=mode,
        )
        for index, corner in zip(ints(batch_indices), corners.unbind(0), strict=True)
    ]
    return torch.stack(regions) if regions else x.new_zeros(0, x.shape[1], output_height, output_width)


@op("RoiAlign", 10)
def roi_align_legacy(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """RoiAlign without the half-pixel shift."""
    return roi_align(
        x,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


def _align_region(
    image: Tensor, corner: Tensor, bins: tuple[int, int], *, ratio: int, at_least_one: bool, mode: str
) -> Tensor:
    """(channels, height, width) and (x1, y1, x2, y2) -> (channels, *bins)."""
    left, top, right, bottom = corner.unbind(0)
    rows = _line(top, bottom, image.shape[1], bins[0], ratio=ratio, at_least_one=at_least_one)
    columns = _line(left, right, image.shape[2], bins[1], ratio=ratio, at_least_one=at_least_one)
    terms = torch.stack(
        [
            image[:, i][:, :, j] * (v.unsqueeze(1) * w)
            for i, v in zip(rows[0], rows[1], strict=True)
            for j, w in zip(columns[0], columns[1], strict=True)
        ]
    )
    samples = terms.amax(0) if mode == "max" else terms.sum(0)
    grid = samples.reshape(image.shape[0], bins[0], rows[2], bins[1], columns[2])
    return grid.amax((2, 4)) if mode == "max" else grid.mean((2, 4))


def _line(
    start: Tensor, end: Tensor, size: int, bins: int, *, ratio: int, at_least_one: bool
) -> tuple[list[Tensor], list[Tensor], int]:
    """Linear interpolation along an axis: indices and weights of both neighbours of a sample; samples a bin.

    A region of extent 0 has no samples; it gets one of weight 0.
    """
    length = (end - start).clamp(min=1) if at_least_one else end - start
    wanted = ratio if ratio > 0 else math.ceil(float(length.item()) / bins)
    each = max(wanted, 1)
    check_elements([bins, each])
    steps = torch.arange(bins * each, dtype=start.dtype, device=start.device) + 0.5
    place = start + steps * (length / (bins * each))
    inside = ((place >= -1) & (place <= size) & (wanted > 0)).to(place.dtype)
    place = place.clamp(0, size - 1)
    lower = place.detach().floor().to(torch.int64)
    upper = (lower + 1).clamp(max=size - 1)
    weight = place - lower
    return [lower, upper], [(1 - weight) * inside, weight * inside], each


@op("NonMaxSuppression", 10, 11)
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: Tensor | None = None,
    iou_threshold: Tensor | None = None,
    score_threshold: Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Greedy non-maximum suppression per class; returns (batch, class, box) of the kept boxes."""
    most = int(_scalar(max_output_boxes_per_class, 0))
    overlap, least = _scalar(iou_threshold, 0.0), _scalar(score_threshold, -math.inf)
    corners = _centred(boxes) if center_point_box else _ordered(boxes)
    kept = [
        [batch, kind, box]
        for batch in range(scores.shape[0])
        for kind in range(scores.shape[1])
        for box in _suppress(corners[batch], scores[batch, kind], most, overlap, least)
    ]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _scalar(value: Tensor | None, default: float) -> float:
    return default if value is None or not value.numel() else float(value.reshape(-1)[0].item())


def _centred(boxes: Tensor) -> Tensor:
    """(x, y, width, height) -> (y1, x1, y2, x2)."""
    middle, half = boxes[..., [1, 0]], boxes[..., [3, 2]] / 2
    return torch.cat([middle - half, middle + half], -1)


def _ordered(boxes: Tensor) -> Tensor:
    """Two opposite corners -> the one with the smaller and the one with the larger coordinates."""
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _suppress(boxes: Tensor, scores: Tensor, most: int, overlap: float, least: float) -> list[int]:
    """Greedy non-maximum suppression of one class: indices of kept boxes, best first, ties by index."""
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[scores[order] > least] if least > -math.inf else order
    kept: list[int] = []
    while order.numel() and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(int(best.item()))
        order = order[~(_overlap(boxes[best], boxes[order]) > overlap)]
    return kept


def _overlap(one: Tensor, others: Tensor) -> Tensor:
    """Intersection over union."""
    low = torch.maximum(one[:2], others[:, :2])
    high = torch.minimum(one[2:], others[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    return common / ((one[2:] - one[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common)


@op("Col2Im", 18)
def col2im(
    x: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    *,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Overlap-add of blocks: (batch, channels * block, blocks) summed into images of any rank."""
    image, block = ints(image_shape), ints(block_shape)
    rank = len(image)
    step, spread, margin = strides or [1] * rank, dilations or [1] * rank, pads or [0] * (2 * rank)
    full = [n + margin[i] + margin[i + rank] for i, n in enumerate(image)]
    channels = x.shape[1] // math.prod(block)
    check_elements([x.shape[0], channels, *full])
    place = torch.zeros([1] * (2 * rank), dtype=torch.int64, device=x.device)  # axes: the block's, the counts
    for i in range(rank):
        count = (full[i] - spread[i] * (block[i] - 1) - 1) // step[i] + 1
        inner = torch.arange(block[i], device=x.device).unsqueeze(1) * spread[i]
        along = inner + torch.arange(count, device=x.device) * step[i]
        shape = [1] * (2 * rank)
        shape[i], shape[rank + i] = block[i], count
        place = place * full[i] + along.reshape(shape)
    flat = x.new_zeros(x.shape[0] * channels, math.prod(full))
    flat = flat.index_add(1, place.reshape(-1), x.reshape(x.shape[0] * channels, -1))
    inside = tuple(slice(margin[i], margin[i] + n) for i, n in enumerate(image))
    return flat.reshape(x.shape[0], channels, *full)[(slice(None), slice(None), *inside)]
