#!/usr/bin/env python3
"""Makes the fixtures of foreign ViT layouts and of position-embedding interpolation; the tests need no Python.

Made with torch 2.15.0, torchvision 0.29.2, timm 1.0.31, safetensors 0.8.0. To make them again:

    venv/bin/pip install torch torchvision timm safetensors
    venv/bin/python tests/golden/make_layout_fixtures.py          # writes tests/golden/fixtures/layout_*

Each layout_NAME holds model.safetensors as the library's state_dict names it and expected.safetensors: the input images,
the token states after the final norm and the logits, computed in float64 from the float32 weights. layout_positions
holds tables and their resampled forms, from torch.nn.functional.interpolate as Transformers calls it and from timm.
"""
import json
import os

import safetensors.torch
import timm
import torch
import torchvision
from timm.layers import resample_abs_pos_embed

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
WIDTH, HEADS, LAYERS, HIDDEN, CLASSES, IMAGE, PATCH = 16, 4, 2, 24, 5, 12, 4


def set_weights(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.1 * noise if p.ndim == 1 and name.endswith(("weight", "gamma")) else 0.25 * noise)
    return model.eval()


def write(name, model, states_of, config):
    directory = os.path.join(FIXTURES, name)
    os.makedirs(directory, exist_ok=True)
    safetensors.torch.save_file({k: v.contiguous() for k, v in model.state_dict().items()},
                                os.path.join(directory, "model.safetensors"), {"format": "pt"})
    with open(os.path.join(directory, "config.json"), "w") as f:
        f.write(json.dumps(config, indent=2) + "\n")
    model = model.double()
    images = torch.randn(3, 3, IMAGE, IMAGE, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = {"pixel_values": images, "last_hidden_state": states_of(model, images), "logits": model(images)}
    safetensors.torch.save_file({k: v.contiguous() for k, v in expected.items()},
                                os.path.join(directory, "expected.safetensors"))


def torchvision_states(model, images):
    x = model._process_input(images)
    return model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), x], dim=1))


def main():
    model = torchvision.models.VisionTransformer(image_size=IMAGE, patch_size=PATCH, num_layers=LAYERS, num_heads=HEADS,
                                                 hidden_dim=WIDTH, mlp_dim=HIDDEN, num_classes=CLASSES)
    # A folder made by hand: torchvision has no config file, and only the number of heads is not in the shapes.
    write("layout_torchvision", set_weights(model, 1), torchvision_states, {"num_attention_heads": HEADS})

    model = timm.models.vision_transformer.VisionTransformer(
        img_size=IMAGE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, mlp_ratio=HIDDEN / WIDTH,
        num_classes=CLASSES, init_values=0.1)
    # The keys that timm writes beside its weights, shortened.
    write("layout_timm", set_weights(model, 2), lambda m, x: m.forward_features(x),
          {"architecture": "vit_tiny_patch4_12", "num_classes": CLASSES, "num_features": WIDTH, "global_pool": "token",
           "num_attention_heads": HEADS,
           "pretrained_cfg": {"input_size": [3, IMAGE, IMAGE], "interpolation": "bicubic", "crop_pct": 0.9,
                              "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}})

    tables = {}
    for side, rows, columns in ((3, 4, 5), (4, 2, 3), (7, 3, 7), (2, 6, 6)):
        width = 3
        table = torch.randn(1, side * side + 1, width, dtype=torch.float64,
                            generator=torch.Generator().manual_seed(side))
        grid = table[:, 1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        key = f"{side}.{rows}.{columns}"
        tables[f"{key}.table"] = table
        tables[f"{key}.hugging_face"] = torch.cat(
            [table[:, :1], resized.permute(0, 2, 3, 1).reshape(1, rows * columns, width)], dim=1)
        # timm computes in float32.
        tables[f"{key}.timm"] = resample_abs_pos_embed(table.float(), (rows, columns), num_prefix_tokens=1).double()
    directory = os.path.join(FIXTURES, "layout_positions")
    os.makedirs(directory, exist_ok=True)
    safetensors.torch.save_file({k: v.contiguous() for k, v in tables.items()},
                                os.path.join(directory, "expected.safetensors"))


if __name__ == "__main__":
    main()
