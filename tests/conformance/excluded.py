"""Cases of ONNX's backend suite and operators that are left out, each with its reason."""

_STRINGS = "torch has no strings"
_IMAGES = "decodes image files, which is no tensor operation"
_TREES = "ai.onnx.ml: decision trees and look-up tables, not networks"
_TRAINING = "ai.onnx.preview.training: optimisers and gradients as graph nodes"
_RANDOM = "expects numpy's random numbers; tests/ops/test_random.py tests the distribution"
_RUNNER = "ONNX's own reference fails: the comparison takes the length of a scalar; test_backend.py compares"

CASES = {
    r"^test_(adagrad|adam|momentum|nesterov_momentum|gradient_of)_": _TRAINING,
    r"^test_ai_onnx_ml_(label_encoder|tree_ensemble)_": _TREES,
    r"^test_bernoulli_": _RANDOM,
    r"^test_equal_string_": _STRINGS,
    r"^test_image_decoder_": _IMAGES,
    r"^test_loop16_seq_none_": _RUNNER,
    r"^test_regex_full_match_": _STRINGS,
    r"^test_string_(concat|split)_": _STRINGS,
    r"^test_strnorm(alizer|_model)_": _STRINGS,
}
"""Regular expression of test names -> why they are not run."""

OPERATORS = {
    "ImageDecoder": _IMAGES,
    "RegexFullMatch": _STRINGS,
    "StringConcat": _STRINGS,
    "StringNormalizer": _STRINGS,
    "StringSplit": _STRINGS,
}
"""Operator of the default domain -> why no version of it has a handler."""
