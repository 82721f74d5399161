"""Networks that libraries define, small and with random weights, with the signatures that exports have."""

from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from nets_text import VOCABULARY, ids
from signatures import Network
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, global_mean_pool
from torchvision.models import detection, mobilenet_v3_small
from torchvision.models.detection import _utils as det_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    ResNetConfig,
    VitsConfig,
    VitsModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
)


class Speaker(nn.Module):
    """VITS with the inputs of Piper's exports: ids, their lengths, and the scales of noise and length."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input: Tensor, input_lengths: Tensor, scales: Tensor) -> Tensor:
        mask = (torch.arange(input.shape[1]) < input_lengths.unsqueeze(1)).long()
        self.model.noise_scale, self.model.noise_scale_duration = scales[0], scales[2]
        self.model.speaking_rate = 1 / scales[1]
        return self.model(input_ids=input, attention_mask=mask).waveform.unsqueeze(1)


def vits_piper() -> Network:
    config = VitsConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        window_size=4,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=17,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=2,
        duration_predictor_num_flows=2,
        duration_predictor_filter_channels=16,
        upsample_initial_channel=32,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        posterior_encoder_num_wavenet_layers=1,
    )
    inputs = {
        "input": ids(1, 9),
        "input_lengths": torch.tensor([9]),
        "scales": torch.tensor([0.667, 1.0, 0.8]),
    }
    axes = {
        "input": {0: "batch_size", 1: "phonemes"},
        "input_lengths": {0: "batch_size"},
        "output": {0: "batch_size", 2: "time"},
    }
    return Network(Speaker(VitsModel(config)), inputs, ("output",), axes)


class Gat(nn.Module):
    """Two layers of attention over edges, to which each node's loop to itself is added, or is not."""

    def __init__(self, *, loops: bool) -> None:
        super().__init__()
        self.first = GATConv(8, 8, 4, add_self_loops=loops)
        self.second = GATConv(32, 5, 1, add_self_loops=loops)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(torch.nn.functional.elu(self.first(x, edge_index)), edge_index)


def gat_loops() -> Network:
    return gat(loops=True)


def gat(*, loops: bool = False) -> Network:
    inputs = {"x": torch.randn(10, 8), "edge_index": torch.randint(0, 10, (2, 30))}
    axes = {"x": {0: "num_nodes"}, "edge_index": {1: "num_edges"}, "logits": {0: "num_nodes"}}
    return Network(Gat(loops=loops), inputs, ("logits",), axes)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = GCNConv(8, 32), GCNConv(32, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        x = self.first(x, edge_index).relu()
        x = self.second(x, edge_index).relu()
        return self.head(global_mean_pool(x, batch, 2))


def gcn_pool() -> Network:
    """Two graphs in one, told apart by a vector; their number is fixed, as it must be in a file."""
    inputs = {
        "x": torch.randn(10, 8),
        "edge_index": torch.randint(0, 10, (2, 30)),
        "batch": torch.tensor([0] * 5 + [1] * 5),
    }
    axes = {"x": {0: "num_nodes"}, "edge_index": {1: "num_edges"}, "batch": {0: "num_nodes"}}
    return Network(Pooled(), inputs, ("logits",), axes)


class Unet(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        return self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]


def unet_diffusion() -> Network:
    model = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    inputs = {
        "sample": torch.randn(2, 4, 16, 16),
        "timestep": torch.tensor([981]),
        "encoder_hidden_states": torch.randn(2, 7, 16),
    }
    axes = {
        "sample": {0: "batch_size", 2: "height", 3: "width"},
        "timestep": {0: "steps"},
        "encoder_hidden_states": {0: "batch_size", 1: "sequence_length"},
        "out_sample": {0: "batch_size", 2: "height", 3: "width"},
    }
    return Network(Unet(model), inputs, ("out_sample",), axes)


class Logits(nn.Module):
    """A model of transformers with named inputs, in their order, and its logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_values, attention_mask=attention_mask).logits


def wav2vec2_ctc() -> Network:
    config = Wav2Vec2Config(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16, 16, 16),
        conv_kernel=(10, 3, 3),
        conv_stride=(5, 2, 2),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        attn_implementation="eager",
    )
    inputs = {"input_values": torch.randn(2, 1600), "attention_mask": torch.ones(2, 1600, dtype=torch.int64)}
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in inputs}
    axes["logits"] = {0: "batch_size", 1: "frames"}
    return Network(Logits(Wav2Vec2ForCTC(config)), inputs, ("logits",), axes)


class Detector(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Any:
        found = self.model([image])[0]
        return found["boxes"], found["labels"], found["scores"]


def detector(model: Any) -> Network:
    axes = {"image": {1: "height", 2: "width"}}
    axes |= {name: {0: "num_detections"} for name in ("boxes", "labels", "scores")}
    return Network(Detector(model), {"image": torch.rand(3, 96, 128)}, ("boxes", "labels", "scores"), axes)


def faster_rcnn() -> Network:
    body = mobilenet_v3_small(weights=None, width_mult=0.25).features
    backbone = BackboneWithFPN(body, {"3": "0", "8": "1"}, [body[3].out_channels, body[8].out_channels], 16)
    anchors = AnchorGenerator(((16, 32), (32, 64), (64, 96)), ((0.5, 1.0, 2.0),) * 3)
    model = detection.FasterRCNN(
        backbone,
        min_size=96,
        max_size=128,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_test=20,
        box_detections_per_img=10,
        box_head=detection.faster_rcnn.TwoMLPHead(16 * 49, 32),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(32, 4),
    )
    return detector(model)


def ssdlite() -> Network:
    """torchvision's SSDlite on MobileNetV3, but with narrow extra layers."""
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    body = mobilenet_v3_small(weights=None, width_mult=0.25, norm_layer=norm).features
    backbone = SSDLiteFeatureExtractorMobileNet(body, 9, norm, width_mult=0.1, min_depth=16)
    anchors = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    channels = det_utils.retrieve_out_channels(backbone, (128, 128))
    model = detection.ssd.SSD(
        backbone,
        anchors,
        (128, 128),
        num_classes=4,
        head=SSDLiteHead(channels, anchors.num_anchors_per_location(), 4, norm),
        detections_per_img=10,
        topk_candidates=30,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return detector(model)


class Detr(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Any:
        out = self.model(pixel_values, pixel_mask)
        return out.logits, out.pred_boxes


def detr() -> Network:
    body = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        out_features=["stage2"],
    )
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=body,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=6,
        num_labels=5,
        attn_implementation="eager",
    )
    inputs = {
        "pixel_values": torch.randn(2, 3, 48, 64),
        "pixel_mask": torch.ones(2, 48, 64, dtype=torch.int64),
    }
    axes = {
        "pixel_values": {0: "batch_size", 2: "height", 3: "width"},
        "pixel_mask": {0: "batch_size", 1: "height", 2: "width"},
        "logits": {0: "batch_size"},
        "pred_boxes": {0: "batch_size"},
    }
    return Network(Detr(DetrForObjectDetection(config)), inputs, ("logits", "pred_boxes"), axes)
