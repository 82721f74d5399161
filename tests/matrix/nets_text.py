"""Networks of transformers that take or give text, small, with the signatures that exports have."""

from typing import Any

import torch
from signatures import Network
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    CLIPConfig,
    CLIPModel,
    LayoutLMConfig,
    LayoutLMForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
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


class Page(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, bbox: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> Tensor:
        return self.model(input_ids, bbox, attention_mask, token_type_ids).logits


def layoutlm() -> Network:
    """Words with their boxes on a page: tables of coordinates, and of their differences."""
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
