"""Write the ``jax_*.onnx`` of this folder: layers in a loop of JAX's, and written out.

    python tests/forms/jax_scan.py FOLDER

Made with jax 0.10.2 and jax2onnx 0.17.1, which ``JAX_PINS`` in ``tests/matrix/make.py`` pins.
"""

import os
import sys
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax2onnx import to_onnx

RANDOM = np.random.default_rng(0)
ROUNDS, WIDTH = 4, 8


def draw(*shape: int) -> np.ndarray:
    return np.asarray(RANDOM.standard_normal(shape) * shape[-1] ** -0.5, np.float32)


FIRST, WEIGHTS, BIASES, RECURRENT = (
    draw(6, WIDTH),
    draw(ROUNDS, WIDTH, WIDTH),
    draw(ROUNDS, WIDTH),
    draw(3, WIDTH, WIDTH),
)
STACKED_WEIGHTS, STACKED_BIASES, STACKED_RECURRENT = map(jnp.asarray, (WEIGHTS, BIASES, RECURRENT))


def layer(h: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    return jnp.tanh(h @ weight + bias) + h


def scan(x: jax.Array) -> jax.Array:
    return jax.lax.scan(
        lambda h, given: (layer(h, *given), None), x @ FIRST, (STACKED_WEIGHTS, STACKED_BIASES)
    )[0]


def scan_written_out(x: jax.Array) -> jax.Array:
    h = x @ FIRST
    for weight, bias in zip(WEIGHTS, BIASES, strict=True):
        h = layer(h, jnp.array(weight), jnp.array(bias))
    return h


def fori_loop(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, ROUNDS, lambda i, h: jnp.tanh(h @ STACKED_WEIGHTS[i]), x @ FIRST)


def while_loop(x: jax.Array) -> jax.Array:
    def step(state: tuple[int, jax.Array]) -> tuple[int, jax.Array]:
        i, h = state
        return i + 1, jnp.tanh(h @ STACKED_WEIGHTS[i])

    return jax.lax.while_loop(lambda state: state[0] < ROUNDS, step, (0, x @ FIRST))[1]


def loop_written_out(x: jax.Array) -> jax.Array:
    h = x @ FIRST
    for weight in WEIGHTS:
        h = jnp.tanh(h @ jnp.array(weight))
    return h


def over_time(sequence: jax.Array, weight: jax.Array, recurrent: jax.Array) -> jax.Array:
    def step(state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = jnp.tanh(x @ weight + state @ recurrent)
        return state, state

    return jax.lax.scan(step, jnp.zeros((sequence.shape[1], WIDTH)), sequence)[1]


def time(x: jax.Array) -> jax.Array:
    return over_time(x @ FIRST, jnp.array(WEIGHTS[0]), jnp.array(RECURRENT[0]))


def nested(x: jax.Array) -> jax.Array:
    stacks = STACKED_WEIGHTS[:3], STACKED_RECURRENT
    return jax.lax.scan(lambda h, given: (over_time(h, *given), None), x @ FIRST, stacks)[0]


def nested_written_out(x: jax.Array) -> jax.Array:
    h = x @ FIRST
    for weight, recurrent in zip(WEIGHTS[:3], RECURRENT, strict=True):
        h = over_time(h, jnp.array(weight), jnp.array(recurrent))
    return h


if __name__ == "__main__":
    for function in (scan, scan_written_out, fori_loop, while_loop, loop_written_out):
        model = to_onnx(function, [("B", 6)])
        onnx.save(model, Path(sys.argv[1]) / f"jax_{function.__name__}.onnx")
    for function in (time, nested, nested_written_out):
        model = to_onnx(function, [(5, 2, 6)])
        onnx.save(model, Path(sys.argv[1]) / f"jax_{function.__name__}.onnx")
