"""Networks that libraries define, small and with random weights, with the signatures that exports have."""

from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from signatures import Network
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, global_mean_pool
from torchvision.models import detection, mobilenet_v3_small
from torchvision.models.detection import _utils as det_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    CLIPConfig,
    CLIPModel,
    DetrConfig,
    DetrForObjectDetection,
    LayoutLMConfig,
    LayoutLMForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    T5Config,
    T5ForConditionalGeneration,
    VitsConfig,
    VitsModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

VOCABULARY = 100
SMALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def ids(*shape: int, high: int = VOCABULARY) -> Tensor:
    return torch.randint(3, high, shape)


def cached(past: tuple[Tensor, ...]) -> DynamicCache:
    """Fill a cache with keys and values, in turn."""
    cache = DynamicCache()
    for layer in range(len(past) // 2):
        cache.update(past[2 * layer], past[2 * layer + 1], layer)
    return cache


def flat(cache: DynamicCache) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


class Causal(nn.Module):
    """A decoder with its cache as inputs and outputs, as optimum exports it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, *past: Tensor) -> Any:
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cached(past),
            use_cache=True,
        )
        return (out.logits, *flat(out.past_key_values))


def llama_cache() -> Network:
    """Llama with grouped queries: four heads on two keys."""
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        attn_implementation="eager",
        tie_word_embeddings=False,
        **SMALL,
    )
    names = [f"{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]
    inputs = {
        "input_ids": ids(2, 3),
        "attention_mask": torch.ones(2, 8, dtype=torch.int64),
        "position_ids": torch.arange(5, 8).expand(2, 3).contiguous(),
        **{f"past_key_values.{name}": torch.randn(2, 2, 5, 8) for name in names},
    }
    tokens = {0: "batch_size", 1: "sequence_length"}
    axes = {
        "input_ids": tokens,
        "attention_mask": {0: "batch_size", 1: "past_sequence_length + sequence_length"},
        "position_ids": tokens,
        "logits": tokens,
    }
    for name in names:
        axes[f"past_key_values.{name}"] = {0: "batch_size", 2: "past_sequence_length"}
        axes[f"present.{name}"] = {0: "batch_size", 2: "past_sequence_length + sequence_length"}
    outputs = ("logits", *(f"present.{name}" for name in names))
    return Network(Causal(LlamaForCausalLM(config)), inputs, outputs, axes)


class Seq2SeqStep(nn.Module):
    """A decoder step on a finished cache of the encoder, as optimum's decoder_with_past_model.onnx."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, encoder_attention_mask: Tensor, input_ids: Tensor, *past: Tensor) -> Any:
        own = tuple(tensor for layer in range(0, len(past), 4) for tensor in past[layer : layer + 2])
        cross = tuple(tensor for layer in range(0, len(past), 4) for tensor in past[layer + 2 : layer + 4])
        cache = EncoderDecoderCache(cached(own), cached(cross))
        out = self.model(
            encoder_outputs=(torch.zeros_like(past[2])[:, 0, :, :1].expand(-1, -1, 32),),
            attention_mask=encoder_attention_mask,
            decoder_input_ids=input_ids,
            past_key_values=cache,
            use_cache=True,
        )
        return (out.logits, *flat(out.past_key_values.self_attention_cache))


def seq2seq_step(model: Any) -> Network:
    own = [f"{layer}.decoder.{kind}" for layer in range(2) for kind in ("key", "value")]
    names = [
        f"{layer}.{side}.{kind}"
        for layer in range(2)
        for side in ("decoder", "encoder")
        for kind in ("key", "value")
    ]
    inputs = {"encoder_attention_mask": torch.ones(2, 7, dtype=torch.int64), "input_ids": ids(2, 1)}
    axes = {
        "encoder_attention_mask": {0: "batch_size", 1: "encoder_sequence_length"},
        "input_ids": {0: "batch_size"},
        "logits": {0: "batch_size"},
    }
    for name in names:
        of_decoder = ".decoder." in name
        inputs[f"past_key_values.{name}"] = torch.randn(2, 4, 5 if of_decoder else 7, 8)
        length = "past_decoder_sequence_length" if of_decoder else "encoder_sequence_length"
        axes[f"past_key_values.{name}"] = {0: "batch_size", 2: length}
    for name in own:
        axes[f"present.{name}"] = {0: "batch_size", 2: "past_decoder_sequence_length + 1"}
    return Network(Seq2SeqStep(model), inputs, ("logits", *(f"present.{name}" for name in own)), axes)


def t5_step() -> Network:
    config = T5Config(
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        attn_implementation="eager",
        **SMALL,
    )
    return seq2seq_step(T5ForConditionalGeneration(config))


def bart_step() -> Network:
    config = BartConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        attn_implementation="eager",
        **SMALL,
    )
    return seq2seq_step(BartForConditionalGeneration(config))


class Speaker(nn.Module):
    """VITS with the inputs of Piper's exports: ids, their lengths, and the scales of noise and length."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input: Tensor, input_lengths: Tensor, scales: Tensor) -> Tensor:  # noqa: A002 - as named there
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


def whisper() -> WhisperForConditionalGeneration:
    config = WhisperConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_mel_bins=80,
        max_source_positions=50,
        max_target_positions=48,
        decoder_start_token_id=1,
        attn_implementation="eager",
        **SMALL,
    )
    return WhisperForConditionalGeneration(config)


class Encoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_features: Tensor) -> Tensor:
        return self.model(input_features).last_hidden_state


def whisper_encoder() -> Network:
    axes = {name: {0: "batch_size"} for name in ("input_features", "last_hidden_state")}
    model = Encoder(whisper().model.encoder)
    return Network(model, {"input_features": torch.randn(2, 80, 100)}, ("last_hidden_state",), axes)


class Listener(nn.Module):
    """The decoder without a past: it computes the keys of the encoder's output itself."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, encoder_hidden_states: Tensor) -> Any:
        out = self.model(
            decoder_input_ids=input_ids, encoder_outputs=(encoder_hidden_states,), use_cache=True
        )
        cache = out.past_key_values
        return (out.logits, *flat(cache.self_attention_cache), *flat(cache.cross_attention_cache))


def whisper_decoder() -> Network:
    sides = [f"{layer}.{{}}.{kind}" for layer in range(2) for kind in ("key", "value")]
    names = [f"present.{side.format(of)}" for of in ("decoder", "encoder") for side in sides]
    inputs = {"input_ids": ids(2, 6), "encoder_hidden_states": torch.randn(2, 50, 32)}
    axes = {
        "input_ids": {0: "batch_size", 1: "decoder_sequence_length"},
        "encoder_hidden_states": {0: "batch_size", 1: "encoder_sequence_length / 2"},
        "logits": {0: "batch_size", 1: "decoder_sequence_length"},
        **{name: {0: "batch_size"} for name in names},
    }
    return Network(Listener(whisper()), inputs, ("logits", *names), axes)


class WhisperStep(nn.Module):
    """The decoder with its past, one token, as optimum's decoder_with_past_model.onnx."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.step = Seq2SeqStep(model)

    def forward(self, input_ids: Tensor, cache_position: Tensor, *past: Tensor) -> Any:
        own = tuple(tensor for layer in range(0, len(past), 4) for tensor in past[layer : layer + 2])
        cross = tuple(tensor for layer in range(0, len(past), 4) for tensor in past[layer + 2 : layer + 4])
        cache = EncoderDecoderCache(cached(own), cached(cross))
        out = self.step.model(
            encoder_outputs=(torch.zeros_like(past[2])[:, 0, :, :1].expand(-1, -1, 32),),
            decoder_input_ids=input_ids,
            decoder_position_ids=cache_position.unsqueeze(0),
            past_key_values=cache,
            use_cache=True,
        )
        return (out.logits, *flat(out.past_key_values.self_attention_cache))


def whisper_step() -> Network:
    net = seq2seq_step(WhisperStep(whisper()))
    inputs = dict(net.inputs)
    del inputs["encoder_attention_mask"]
    tokens = inputs.pop("input_ids")
    inputs = {"input_ids": tokens, "cache_position": torch.tensor([5]), **inputs}
    axes = {name: axis for name, axis in net.axes.items() if name != "encoder_attention_mask"}
    return Network(WhisperStep(whisper()), inputs, net.outputs, axes)


class Clip(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor) -> Any:
        out = self.model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        return out.logits_per_image, out.logits_per_text, out.text_embeds, out.image_embeds


def clip() -> Network:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={**sizes, "max_position_embeddings": 16, **SMALL},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        attn_implementation="eager",
    )
    inputs = {
        "input_ids": ids(2, 9),
        "pixel_values": torch.randn(3, 3, 32, 32),
        "attention_mask": torch.ones(2, 9, dtype=torch.int64),
    }
    text, image = "text_batch_size", "image_batch_size"
    axes = {
        "input_ids": {0: text, 1: "sequence_length"},
        "pixel_values": {0: image},
        "attention_mask": {0: text, 1: "sequence_length"},
        "logits_per_image": {0: image, 1: text},
        "logits_per_text": {0: text, 1: image},
        "text_embeds": {0: text},
        "image_embeds": {0: image},
    }
    outputs = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")
    return Network(Clip(CLIPModel(config)), inputs, outputs, axes)


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


class Page(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, bbox: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.model(input_ids, bbox, attention_mask, token_type_ids).logits


def layoutlm() -> Network:
    """Words with their boxes on a page: tables of coordinates, and of widths and heights, their differences."""
    config = LayoutLMConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        max_2d_position_embeddings=128,
        num_labels=5,
        attn_implementation="eager",
    )
    inputs = {
        "input_ids": ids(2, 9),
        "bbox": torch.tensor([3, 5, 40, 9]).expand(2, 9, 4).contiguous(),
        "attention_mask": torch.ones(2, 9, dtype=torch.int64),
        "token_type_ids": torch.zeros(2, 9, dtype=torch.int64),
    }
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in (*inputs, "logits")}
    return Network(Page(LayoutLMForTokenClassification(config)), inputs, ("logits",), axes)
