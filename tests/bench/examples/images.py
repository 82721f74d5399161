"""Of the spaces whose networks classify images."""

from __future__ import annotations

import json
import math

from intrain_onnx.bench.spaces.base import compact

from ..twins import convolutions, transformers
from .example import Example

DIGITS: dict[str, object] = {"depth": 8, "width": 8, "gain": 1.0, "residual": True, "norm": True}

IMAGES = {
    "nasbench201": Example(
        twin=convolutions.nasbench201,
        size=16,
        columns=["arch_str"],
        degenerate=[
            "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
            "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
            "|none~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|",
        ],
        bad=["", "|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|", "|none~0|+|none~0|none~1|"],
    ),
    "nasbench101": Example(
        twin=convolutions.nasbench101,
        size=8,
        columns=["adjacency", "ops"],
        degenerate=[
            "0100 input,output",
            "011001000 input,maxpool3x3,output",
            # Three vertices share the channels unevenly, and wider ones feed narrower ones.
            "0110100000100100001000000010000000100000010000000 "
            "input,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,conv1x1-bn-relu,maxpool3x3,output",
        ],
        bad=[
            "",
            "0100",
            "0100 input,maxpool3x3",
            "0110 input,output",
            "0000 input,output",
            "011001000 input,conv9x9,output",
        ],
    ),
    "nats_size": Example(
        twin=convolutions.nats_size,
        size=16,
        columns=["channels"],
        degenerate=["8:8:8:8:8", "64:8:64:8:64"],
        bad=["", "8:8:8:8", "8:8:8:8:9", "8:8:8:8:72"],
    ),
    "macro": Example(
        twin=convolutions.macro,
        size=16,
        columns=["arch"],
        degenerate=["00000000", "02000010"],
        bad=["", "0120120", "01201203"],
    ),
    "transnas_macro": Example(
        twin=convolutions.transnas_macro,
        size=32,
        columns=["arch_str"],
        degenerate=["64-1114-basic", "64-241343-basic", "64-311121-basic"],
        light=lambda text: sum(digit in "24" for digit in text) < 4,
        bad=[
            "",
            "111114",
            "32-1114-basic",
            "64-111-basic",
            "64-1111114-basic",
            "64-1115-basic",
            "64-1113-basic",
            "64-1112-basic",
            "64-22224-basic",
            "64-333334-basic",
        ],
    ),
    "mobilenet_v2": Example(
        twin=convolutions.mobilenet_v2,
        size=32,
        columns=["arch"],
        degenerate=[
            "8 k3e1c8n1s1 8",
            "16 k7e1c16n2s1 k5e2c16n3s2 k3e4c24n1s1 64",
            "8 k3e6b8c32n1s2 k5e1b32c32n3s2 k7e2b16c24n2s1 64",
        ],
        bad=["", "32 1280", "32 k3e3c16n1s1 1280", "x k3e1c16n1s1 1280", "32 k3e1c16n1s1 0"],
    ),
    "nds_resnet": Example(
        twin=convolutions.nds_resnet,
        size=48,
        columns=["net_json"],
        degenerate=[
            '{"block_type":"res_basic_block","bot_muls":[],"ds":[1,1],"num_gs":[],"ss":[4,1],"ws":[2,2]}',
            '{"block_type":"res_basic_block","bot_muls":[],"ds":[1,2,1],"num_gs":[],"ss":[8,2,1],"ws":[8,5,16]}',
            '{"block_type":"res_bottleneck_block","bot_muls":[1.0,0.5,1.5],"ds":[1,1,2],"num_gs":[1,4,3],'
            '"ss":[4,1,2],"ws":[8,8,8]}',
        ],
        bad=[
            "",
            "{}",
            '{"block_type":"vanilla_block","ds":[1,1],"ss":[4,1],"ws":[8,8]}',
            '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,1],"ws":[8,8],"se_r":0.25}',
            '{"block_type":"res_basic_block","ds":1,"ss":4,"ws":8}',
            '{"block_type":"res_basic_block","ds":[],"ss":[],"ws":[]}',
            '{"block_type":"res_basic_block","ds":[1],"ss":[4],"ws":[8]}',
            '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,1],"ws":[8]}',
            '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,1],"ws":[8,0]}',
            '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,3],"ws":[8,8]}',
            '{"block_type":"res_basic_block","ds":[1,1],"ss":[2,1],"ws":[8,8]}',
            '{"block_type":"res_basic_block","ds":[2,1],"ss":[4,1],"ws":[8,8]}',
            '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,1],"ws":[7,8]}',
            '{"block_type":"res_basic_block","bot_muls":[1,1],"ds":[1,1],"ss":[4,1],"ws":[8,8]}',
            '{"block_type":"res_bottleneck_block","ds":[1,1],"ss":[4,1],"ws":[8,8]}',
            *(
                f'{{"block_type":"res_bottleneck_block","bot_muls":[1,{ratio}],"ds":[1,1],"num_gs":[1,{groups}],'
                '"ss":[4,1],"ws":[8,8]}'
                for ratio, groups in ((0.5, 3), (0, 1), ("null", 1), (0.05, 1))
            ),
        ],
    ),
    "autoformer": Example(
        twin=transformers.autoformer,
        size=48,
        columns=["arch"],
        degenerate=[
            '{"embed_dim":24,"depth":1,"mlp_ratio":[0.5],"num_heads":[1]}',
            '{"hidden_dim":24,"depth":2,"mlp_ratio":[2.0,3.5],"num_heads":[4,1]}',
        ],
        bad=[
            "",
            "[]",
            "{}",
            '{"embed_dim":192.5,"depth":1,"mlp_ratio":[4],"num_heads":[3]}',
            '{"embed_dim":192,"depth":2,"mlp_ratio":[4],"num_heads":[3,3]}',
            '{"embed_dim":192,"depth":1,"mlp_ratio":[-1],"num_heads":[3]}',
            '{"hidden_dim":192,"depth":1,"mlp_ratio":[4],"num_heads":[5]}',
        ],
    ),
    "pit": Example(
        twin=transformers.pit,
        size=40,
        columns=["arch"],
        degenerate=[
            '{"base_dim":8,"mlp_ratio":2.0,"num_heads":[1,1,1],"depth":[1,1,1]}',
            '{"base_dim":8,"mlp_ratio":0.5,"num_heads":[1,3,6],"depth":[1,2,1]}',
        ],
        light=lambda text: max(json.loads(text)["num_heads"]) * json.loads(text)["base_dim"] < 200,
        bad=[
            "",
            '{"base_dim":8,"mlp_ratio":"2","num_heads":[1,1,1],"depth":[1,1,1]}',
            '{"base_dim":8,"mlp_ratio":2,"num_heads":[1,1],"depth":[1,1,1]}',
            '{"base_dim":8,"mlp_ratio":2,"num_heads":[4,2,2],"depth":[1,1,1]}',
            '{"base_dim":8,"mlp_ratio":2,"num_heads":[1,1,1],"depth":[1,1,0]}',
        ],
    ),
    "digits": Example(
        twin=convolutions.digits,
        size=8,
        channels=1,
        columns=["arch"],
        degenerate=[
            '{"depth":4,"width":8,"gain":1.0,"residual":true,"norm":true}',
            '{"depth":6,"width":3,"gain":0.5,"residual":true,"norm":false}',
            '{"depth":10,"width":5,"gain":2.0,"residual":false,"norm":true}',
            '{"depth":16,"width":6,"gain":0.25,"residual":false,"norm":false}',
        ],
        bad=[
            "",
            "[]",
            "{}",
            *(
                compact(DIGITS | {key: wrong})
                for key, wrong in (
                    ("depth", 7),
                    ("depth", 2),
                    ("depth", 8.0),
                    ("depth", 1002),
                    ("width", 0),
                    ("width", True),
                    ("gain", 0),
                    ("gain", "1"),
                    ("gain", math.inf),
                    ("residual", 1),
                    ("norm", None),
                )
            ),
        ],
    ),
    "torchvision": Example(
        columns=["model"],
        degenerate=["maxvit_t"],
        light=lambda name: name.startswith(("mnasnet", "mobilenet", "shufflenet")),
        bad=["", "resnet", "resnet18 ", "fasterrcnn_resnet50_fpn"],
    ),
}
