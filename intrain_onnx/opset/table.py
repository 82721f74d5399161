"""The table of operator traits: one row for each operator that has a handler.

A new operator needs a row (``tests/opset/test_traits.py``). Every operator with a float input states its
``parameters``, ``{}`` if none is trained, so that omitting an input is deliberate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from intrain_onnx.opset.kinds import EVERY_INPUT, NO_PROPERTIES, Kind, Property, Traits

MICROSOFT: Final = "com.microsoft"
ML: Final = "ai.onnx.ml"

_P = Property
_NO: Mapping[int, str] = {}
_CHANNELS, _LENGTH, _AXES = _P.KEEPS_CHANNELS, _P.KEEPS_LENGTH, _P.MOVES_AXES
_UNARY = _CHANNELS | _LENGTH
_STEP = _LENGTH | _P.NO_GRADIENT
_PRODUCT = _P.KEEPS_SIGN | _P.ORDERED | _AXES
_AFFINE = {1: "scale", 2: "bias"}
_FILTER = {1: "weight", 2: "bias"}
_CELLS = {1: "weight", 2: "weight", 3: "bias"}
_MATRICES = {0: "weight", 1: "weight"}


def _activation(properties: Property = NO_PROPERTIES, parameters: Mapping[int, str] = _NO) -> Traits:
    return Traits(Kind.ACTIVATION, parameters, _UNARY | properties)


def _elementwise(properties: Property = NO_PROPERTIES, parameters: Mapping[int, str] = _NO) -> Traits:
    return Traits(Kind.ELEMENTWISE, parameters, _LENGTH | properties)


def _normalisation(
    properties: Property = _P.OVER_FEATURES, parameters: Mapping[int, str] = _AFFINE
) -> Traits:
    return Traits(Kind.NORMALISATION, parameters, _LENGTH | properties)


def _view(properties: Property = _AXES | _LENGTH) -> Traits:
    return Traits(Kind.VIEW, _NO, properties | _P.KEEPS_SIGN, elements_of=(0,))


def _selection(
    properties: Property = NO_PROPERTIES,
    elements_of: tuple[int, ...] = (0,),
    parameters: Mapping[int, str] = _NO,
) -> Traits:
    return Traits(Kind.SELECTION, parameters, properties, elements_of=elements_of)


def _reduction(properties: Property = NO_PROPERTIES, elements_of: tuple[int, ...] = ()) -> Traits:
    return Traits(Kind.REDUCTION, _NO, _AXES | properties, elements_of=elements_of)


def _pool(properties: Property = NO_PROPERTIES, elements_of: tuple[int, ...] = ()) -> Traits:
    return Traits(Kind.POOL, _NO, _CHANNELS | properties, elements_of=elements_of)


def _quantised(
    parameters: Mapping[int, str] = _NO, properties: Property = _P.ON_INTEGERS, float_form: str | None = None
) -> Traits:
    return Traits(Kind.QUANTISED, parameters, properties, float_form=float_form)


def _other(properties: Property = NO_PROPERTIES, parameters: Mapping[int, str] | None = _NO) -> Traits:
    return Traits(Kind.OTHER, parameters, properties)


_SEQUENCE = Traits(Kind.SEQUENCE, _NO)
_CONTROL = Traits(Kind.CONTROL, _NO)
_GENERATOR = Traits(Kind.GENERATOR, _NO)
_RANDOM = Traits(Kind.RANDOM, _NO)
_RANDOM_LIKE = Traits(Kind.RANDOM, _NO, _P.SHAPE_ONLY)
_LOSS = Traits(Kind.LOSS, _NO)
_COMPARISON = Traits(Kind.ELEMENTWISE, _NO, _STEP)
_LOGIC = Traits(Kind.ELEMENTWISE, None, _STEP)
_BITS = Traits(Kind.ELEMENTWISE, None, _LENGTH)

_ONNX: Final[Mapping[str, Traits]] = {
    "Abs": _elementwise(_CHANNELS | _P.NEVER_NEGATIVE),
    "Acos": _elementwise(_CHANNELS | _P.NEVER_NEGATIVE),
    "Acosh": _elementwise(_CHANNELS | _P.NEVER_NEGATIVE),
    "Add": _elementwise(_P.JOINS | _P.SHIFTS | _P.KEEPS_SIGN, {0: "offset", 1: "offset"}),
    "AffineGrid": _other(_AXES),
    "And": _LOGIC,
    "ArgMax": _reduction(_P.NO_GRADIENT),
    "ArgMin": _reduction(_P.NO_GRADIENT),
    "Asin": _elementwise(_CHANNELS),
    "Asinh": _elementwise(_CHANNELS),
    "Atan": _elementwise(_CHANNELS),
    "Atanh": _elementwise(_CHANNELS),
    "Attention": Traits(Kind.ATTENTION, _NO),
    "AveragePool": _pool(_P.WINDOW | _P.KEEPS_SIGN),
    "BatchNormalization": _normalisation(_CHANNELS),
    "Bernoulli": _RANDOM,
    "BitCast": _other(),
    "BitShift": _BITS,
    "BitwiseAnd": _BITS,
    "BitwiseNot": _BITS,
    "BitwiseOr": _BITS,
    "BitwiseXor": _BITS,
    "BlackmanWindow": Traits(Kind.GENERATOR),
    "Cast": Traits(Kind.VIEW, _NO, _UNARY | _P.KEEPS_SIGN),
    "CastLike": _elementwise(_CHANNELS | _P.KEEPS_SIGN),
    "CausalConvWithState": Traits(Kind.CONVOLUTION, _FILTER, _CHANNELS | _LENGTH),
    "Ceil": _elementwise(_P.NO_GRADIENT),
    "Celu": _activation(),
    "CenterCropPad": _selection(),
    "Clip": _activation(),
    "Col2Im": _other(_AXES),
    "Compress": _selection(_AXES),
    "Concat": _selection(
        _LENGTH | _P.JOINS | _P.ORDERED | _P.KEEPS_SIGN, (EVERY_INPUT,), dict.fromkeys(range(8), "table")
    ),
    "ConcatFromSequence": _SEQUENCE,
    "Constant": Traits(Kind.GENERATOR),
    "ConstantOfShape": Traits(Kind.GENERATOR),
    "Conv": Traits(Kind.CONVOLUTION, _FILTER, _P.WINDOW | _P.KEEPS_SIGN),
    "ConvInteger": _quantised({1: "weight"}, float_form="Conv"),
    "ConvTranspose": Traits(Kind.CONVOLUTION, _FILTER, _P.KEEPS_SIGN),
    "Cos": _elementwise(_CHANNELS),
    "Cosh": _elementwise(_CHANNELS | _P.NEVER_NEGATIVE),
    "CumProd": _elementwise(),
    "CumSum": _elementwise(_P.KEEPS_SIGN),
    "DFT": _other(_AXES),
    "DeformConv": Traits(Kind.CONVOLUTION, {1: "weight", 3: "bias"}, _P.KEEPS_SIGN),
    "DepthToSpace": _selection(_P.KEEPS_SIGN),
    "DequantizeLinear": _quantised({0: "weight"}, _LENGTH),
    "Det": _reduction(),
    "Div": _elementwise(_P.SCALES | _P.KEEPS_SIGN),
    "Dropout": Traits(Kind.ELEMENTWISE, _NO, _UNARY | _P.KEEPS_SIGN, elements_of=(0,)),
    "DynamicQuantizeLinear": _quantised(),
    "Einsum": Traits(Kind.PRODUCT, dict.fromkeys(range(8), "weight"), _PRODUCT),
    "Elu": _activation(),
    "Equal": _COMPARISON,
    "Erf": _activation(),
    "Exp": _elementwise(_CHANNELS | _P.NEVER_NEGATIVE),
    "Expand": _selection(_P.KEEPS_SIGN, parameters={0: "table"}),
    "EyeLike": Traits(Kind.GENERATOR, _NO, _P.SHAPE_ONLY),
    "Flatten": _view(),
    "Floor": _elementwise(_P.NO_GRADIENT),
    "GRU": Traits(Kind.RECURRENT, _CELLS),
    "Gather": Traits(Kind.LOOKUP, {0: "table"}, _AXES | _P.KEEPS_SIGN, elements_of=(0,)),
    "GatherElements": _selection(),
    "GatherND": _selection(_AXES),
    "Gelu": _activation(),
    "Gemm": Traits(Kind.PRODUCT, {**_MATRICES, 2: "bias"}, _PRODUCT),
    "GlobalAveragePool": _pool(_P.KEEPS_SIGN),
    "GlobalLpPool": _pool(_P.NEVER_NEGATIVE),
    "GlobalMaxPool": _pool(_P.KEEPS_SIGN),
    "Greater": _COMPARISON,
    "GreaterOrEqual": _COMPARISON,
    "GridSample": _other(),
    "GroupNormalization": _normalisation(),
    "HammingWindow": Traits(Kind.GENERATOR),
    "HannWindow": Traits(Kind.GENERATOR),
    "HardSigmoid": _activation(_P.NEVER_NEGATIVE),
    "HardSwish": _activation(),
    "Hardmax": Traits(Kind.SOFTMAX, _NO, _STEP | _P.NEVER_NEGATIVE),
    "Identity": _view(_UNARY),
    "If": _CONTROL,
    "InstanceNormalization": _normalisation(_P.OVER_FEATURES | _CHANNELS),
    "IsInf": _COMPARISON,
    "IsNaN": _COMPARISON,
    "LRN": _normalisation(NO_PROPERTIES, _NO),
    "LSTM": Traits(Kind.RECURRENT, {**_CELLS, 7: "bias"}),
    "LayerNormalization": _normalisation(),
    "LeakyRelu": _activation(),
    "Less": _COMPARISON,
    "LessOrEqual": _COMPARISON,
    "LinearAttention": Traits(Kind.ATTENTION, _NO),
    "Log": _elementwise(_CHANNELS),
    "LogSoftmax": Traits(Kind.SOFTMAX, _NO, _LENGTH | _P.TO_PROBABILITIES),
    "Loop": _CONTROL,
    "LpNormalization": _normalisation(parameters=_NO),
    "LpPool": _pool(_P.WINDOW | _P.NEVER_NEGATIVE),
    "MatMul": Traits(Kind.PRODUCT, _MATRICES, _PRODUCT),
    "MatMulInteger": _quantised({0: "weight", 1: "weight"}, float_form="MatMul"),
    "Max": Traits(Kind.ELEMENTWISE, _NO, _LENGTH | _P.JOINS, elements_of=(EVERY_INPUT,)),
    "MaxPool": Traits(
        Kind.POOL, _NO, _CHANNELS | _P.WINDOW | _P.KEEPS_SIGN, elements_of=(0,), no_gradient_outputs=(1,)
    ),
    "MaxRoiPool": _pool(_P.KEEPS_SIGN),
    "MaxUnpool": _other(),
    "Mean": _elementwise(_P.JOINS | _P.KEEPS_SIGN),
    "MeanVarianceNormalization": _normalisation(parameters=_NO),
    "MelWeightMatrix": Traits(Kind.GENERATOR, _NO),
    "Min": Traits(Kind.ELEMENTWISE, _NO, _LENGTH | _P.JOINS | _P.KEEPS_SIGN, elements_of=(EVERY_INPUT,)),
    "Mish": _activation(),
    "Mod": _elementwise(),
    "Mul": _elementwise(_P.SCALES | _P.KEEPS_SIGN, {0: "scale", 1: "scale"}),
    "Multinomial": _RANDOM,
    "Neg": _elementwise(_CHANNELS),
    "NegativeLogLikelihoodLoss": _LOSS,
    "NonMaxSuppression": _other(_P.NO_GRADIENT),
    "NonZero": _other(_P.NO_GRADIENT | _AXES),
    "Not": _LOGIC,
    "OneHot": _other(_P.NO_GRADIENT | _AXES),
    "Optional": _SEQUENCE,
    "OptionalGetElement": _SEQUENCE,
    "OptionalHasElement": _SEQUENCE,
    "Or": _LOGIC,
    "PRelu": _activation(parameters={1: "slope"}),
    "Pad": _selection(_LENGTH, (0, 2)),
    "Pow": _elementwise(),
    "QLinearConv": _quantised({3: "weight"}, float_form="Conv"),
    "QLinearMatMul": _quantised({0: "weight", 3: "weight"}, float_form="MatMul"),
    "QuantizeLinear": _quantised(properties=_STEP),
    "RMSNormalization": _normalisation(parameters={1: "scale"}),
    "RNN": Traits(Kind.RECURRENT, _CELLS),
    "RandomNormal": Traits(Kind.RANDOM),
    "RandomNormalLike": _RANDOM_LIKE,
    "RandomUniform": Traits(Kind.RANDOM),
    "RandomUniformLike": _RANDOM_LIKE,
    "Range": _GENERATOR,
    "Reciprocal": _elementwise(_CHANNELS | _P.KEEPS_SIGN),
    "ReduceL1": _reduction(_P.NEVER_NEGATIVE),
    "ReduceL2": _reduction(_P.NEVER_NEGATIVE),
    "ReduceLogSum": _reduction(),
    "ReduceLogSumExp": _reduction(),
    "ReduceMax": _reduction(_P.KEEPS_SIGN, (0,)),
    "ReduceMean": _reduction(_P.KEEPS_SIGN),
    "ReduceMin": _reduction(_P.KEEPS_SIGN, (0,)),
    "ReduceProd": _reduction(_P.KEEPS_SIGN),
    "ReduceSum": _reduction(_P.KEEPS_SIGN),
    "ReduceSumSquare": _reduction(_P.NEVER_NEGATIVE),
    "Relu": _activation(_P.NEVER_NEGATIVE),
    "Reshape": _view(),
    "Resize": _selection(),
    "ReverseSequence": _selection(_LENGTH),
    "RoiAlign": _pool(_P.KEEPS_SIGN),
    "RotaryEmbedding": _elementwise(),
    "Round": _elementwise(_P.NO_GRADIENT),
    "STFT": _other(_AXES),
    "Scan": _CONTROL,
    "Scatter": _other(),
    "ScatterElements": _other(),
    "ScatterND": _other(),
    "Selu": _activation(),
    "SequenceAt": Traits(Kind.SEQUENCE),
    "SequenceConstruct": _SEQUENCE,
    "SequenceEmpty": Traits(Kind.SEQUENCE),
    "SequenceErase": Traits(Kind.SEQUENCE),
    "SequenceInsert": _SEQUENCE,
    "SequenceLength": Traits(Kind.SEQUENCE),
    "SequenceMap": _CONTROL,
    "Shape": Traits(Kind.SHAPE, _NO, _P.SHAPE_ONLY),
    "Shrink": _activation(),
    "Sigmoid": _activation(_P.NEVER_NEGATIVE | _P.TO_PROBABILITIES),
    "Sign": _elementwise(_P.NO_GRADIENT),
    "SimplifiedLayerNormalization": _normalisation(parameters={1: "scale"}),
    "Sin": _elementwise(_CHANNELS),
    "Sinh": _elementwise(_CHANNELS),
    "Size": Traits(Kind.SHAPE, _NO, _P.SHAPE_ONLY),
    "Slice": _selection(_LENGTH | _P.KEEPS_SIGN),
    "Softmax": Traits(Kind.SOFTMAX, _NO, _LENGTH | _P.NEVER_NEGATIVE | _P.TO_PROBABILITIES),
    "SoftmaxCrossEntropyLoss": _LOSS,
    "Softplus": _activation(_P.NEVER_NEGATIVE),
    "Softsign": _activation(),
    "SpaceToDepth": _selection(_P.KEEPS_SIGN),
    "Split": _selection(_P.KEEPS_SIGN),
    "SplitToSequence": _SEQUENCE,
    "Sqrt": _elementwise(_CHANNELS | _P.NEVER_NEGATIVE),
    "Squeeze": _view(),
    "Sub": _elementwise(_P.SHIFTS, {1: "offset"}),
    "Sum": _elementwise(_P.JOINS | _P.SHIFTS | _P.KEEPS_SIGN, dict.fromkeys(range(8), "offset")),
    "SwiGLU": _elementwise(),
    "Swish": _activation(),
    "Tan": _elementwise(_CHANNELS),
    "Tanh": _activation(),
    "TensorScatter": _other(),
    "TfIdfVectorizer": Traits(Kind.OTHER, None, _P.NO_GRADIENT),
    "ThresholdedRelu": _activation(),
    "Tile": _selection(_P.KEEPS_SIGN),
    "TopK": Traits(Kind.SELECTION, _NO, no_gradient_outputs=(1,)),
    "Transpose": _view(_AXES),
    "Trilu": _elementwise(_P.KEEPS_SIGN),
    "Unique": _other(_P.NO_GRADIENT | _AXES),
    "Unsqueeze": _view(),
    "Upsample": _selection(_P.KEEPS_SIGN),
    "Where": Traits(Kind.ELEMENTWISE, _NO, _LENGTH | _P.KEEPS_SIGN, elements_of=(1, 2)),
    "Xor": _LOGIC,
}

_CONTRIB: Final[Mapping[str, Traits]] = {
    "Attention": Traits(Kind.ATTENTION, {1: "weight", 2: "bias"}),
    "BiasGelu": _activation(parameters={1: "bias"}),
    "DynamicQuantizeLSTM": _quantised({1: "weight", 2: "weight", 3: "bias"}, NO_PROPERTIES, "LSTM"),
    "DynamicQuantizeMatMul": _quantised({1: "weight", 4: "bias"}, NO_PROPERTIES, "MatMul"),
    "EmbedLayerNormalization": _normalisation(
        parameters={2: "table", 3: "table", 4: "table", 5: "scale", 6: "bias"}
    ),
    "FastGelu": _activation(parameters={1: "bias"}),
    "FusedConv": Traits(Kind.CONVOLUTION, _FILTER, _P.WINDOW),
    "FusedGemm": Traits(Kind.PRODUCT, {**_MATRICES, 2: "bias"}, _P.ORDERED | _AXES),
    "FusedMatMul": Traits(Kind.PRODUCT, _MATRICES, _P.ORDERED | _AXES),
    "Gelu": _activation(),
    "GroupQueryAttention": Traits(Kind.ATTENTION, _NO),
    "MatMulIntegerToFloat": _quantised({0: "weight", 1: "weight", 6: "bias"}, NO_PROPERTIES, "MatMul"),
    "MatMulNBits": _quantised({1: "weight", 2: "weight", 5: "bias"}, NO_PROPERTIES, "MatMul"),
    "MultiHeadAttention": Traits(Kind.ATTENTION, {3: "bias"}),
    "QGemm": _quantised({0: "weight", 3: "weight", 6: "bias"}, float_form="Gemm"),
    "QLinearAdd": _quantised(),
    "QLinearAveragePool": _quantised(),
    "QLinearConcat": _quantised(),
    "QLinearGlobalAveragePool": _quantised(),
    "QLinearLeakyRelu": _quantised(),
    "QLinearMul": _quantised(),
    "QLinearSigmoid": _quantised(),
    "QLinearSoftmax": _quantised(),
    "QLinearWhere": _quantised(),
    "QuickGelu": _activation(),
    "RotaryEmbedding": _elementwise(),
    "SkipLayerNormalization": _normalisation(parameters={2: "scale", 3: "bias", 4: "bias"}),
    "SkipSimplifiedLayerNormalization": _normalisation(parameters={2: "scale", 3: "bias"}),
}

_MACHINE_LEARNING: Final[Mapping[str, Traits]] = {
    "ArrayFeatureExtractor": _selection(_AXES),
    "Binarizer": _elementwise(_P.NO_GRADIENT),
    "FeatureVectorizer": _other(_AXES),
    "Imputer": _elementwise(_CHANNELS),
    "LinearClassifier": Traits(
        Kind.PRODUCT, _NO, _AXES, no_gradient_outputs=(0,), coefficients=("coefficients",)
    ),
    "LinearRegressor": Traits(Kind.PRODUCT, _NO, _AXES, coefficients=("coefficients",)),
    "Normalizer": _normalisation(parameters=_NO),
    "Scaler": _elementwise(_CHANNELS),
    "ZipMap": _SEQUENCE,
}

_PREVIEW: Final[Mapping[str, Traits]] = {
    "FlexAttention": Traits(Kind.ATTENTION, _NO),
}

ROWS: Final[Mapping[tuple[str, str], Traits]] = {
    (domain, op_type): row
    for domain, rows in (
        ("", _ONNX),
        (MICROSOFT, _CONTRIB),
        (ML, _MACHINE_LEARNING),
        ("ai.onnx.preview", _PREVIEW),
    )
    for op_type, row in rows.items()
}
