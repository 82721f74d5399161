"""Of the spaces whose networks read words."""

from __future__ import annotations

import json

from ..twins import tokens
from .example import Example


def values(description: str) -> list[str]:
    """Each in a column of its own."""
    return [json.dumps(value) for value in json.loads(description).values()]


TOKENS = {
    "gpt2": Example(
        twin=tokens.gpt2,
        size=5,
        channels=None,
        others=2,
        columns=["cfg.d_model", "cfg.d_embed", "cfg.div_val", "cfg.n_head", "cfg.d_inner"],
        cells=values,
        degenerate=[
            '{"d_model":8,"d_embed":8,"div_val":1,"n_head":[2],"d_inner":[5]}',
            '{"d_model":12,"d_embed":8,"div_val":1,"n_head":[3,1],"d_inner":[7,5]}',
            '{"d_model":8,"d_embed":16,"div_val":4,"n_head":[8,4],"d_inner":[3,9]}',
        ],
        light=lambda text: json.loads(text)["d_embed"] < 300,
        bad=[
            "",
            '{"d_model":8,"d_embed":8,"div_val":0,"n_head":[2],"d_inner":[5]}',
            '{"d_model":8,"d_embed":8,"div_val":1,"n_head":[3],"d_inner":[5]}',
            '{"d_model":8,"d_embed":8,"div_val":1,"n_head":[2],"d_inner":[5,5]}',
            '{"d_model":8,"d_embed":8,"div_val":1,"n_head":[],"d_inner":[]}',
            '{"d_model":8,"d_embed":8,"div_val":4,"n_head":[2],"d_inner":[5]}',
        ],
    ),
    "openlm": Example(
        twin=tokens.openlm,
        size=5,
        channels=None,
        columns=["d", "l", "h"],
        cells=values,
        degenerate=['{"d":8,"l":1,"h":1}', '{"d":20,"l":2,"h":3}'],
        light=lambda text: json.loads(text)["d"] * json.loads(text)["l"] < 5000,
        bad=["", '{"d":8,"l":1}', '{"d":8,"l":1,"h":8}', '{"d":8,"l":1,"h":9}', '{"d":8,"l":0,"h":1}'],
    ),
    "nas_bench_nlp": Example(
        twin=tokens.nas_bench_nlp,
        size=4,
        channels=None,
        columns=["recepie"],
        degenerate=[
            '{"node_0":{"op":"linear","input":["x"]},"h_new_0":{"op":"elementwise_sum","input":["node_0","h_prev_0"]}}',
            # Out of order, a node that nothing reads, a state that nothing reads, an input read twice.
            json.dumps(
                {
                    "h_new_0": {"op": "blend", "input": ["node_1", "node_0", "h_prev_0"]},
                    "node_0": {"op": "activation_tanh", "input": ["node_2"]},
                    "node_1": {"op": "activation_sigm", "input": ["node_2"]},
                    "node_2": {"op": "linear", "input": ["h_prev_0", "x", "x"]},
                    "node_3": {"op": "linear", "input": ["node_2"]},
                    "h_new_1": {"op": "elementwise_prod", "input": ["node_0", "node_0"]},
                },
                separators=(",", ":"),
            ),
        ],
        bad=[
            "",
            "{}",
            '{"node_0":{"op":"linear","input":["x"]}}',
            '{"h_new_0":["x"]}',
            '{"h_new_0":{"op":"linear","input":[]}}',
            '{"h_new_0":{"op":"relu","input":["h_prev_0"]}}',
            '{"h_new_0":{"op":"linear","input":["h_prev_1"]}}',
            '{"h_new_0":{"op":"linear","input":["h_new_0"]}}',
            '{"h_new_0":{"op":"blend","input":["h_prev_0","h_prev_0"]}}',
            '{"h_new_0":{"op":"activation_tanh","input":["x"]}}',
        ],
    ),
}
