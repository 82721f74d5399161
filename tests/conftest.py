"""Before any test imports onnxruntime, or starts a program that does."""

import os

from intrain_onnx.parity import telemetry

os.environ.update(telemetry.SWITCHES)
